//! `support-bundle`: what is in it, and what never is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use iotsocketd::wire::Format;

use crate::stored;
use crate::support::{Site, eventually, request};

/// Names and texts of what is in a bundle.
fn unpack(bundle: &Path) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    tar.arg("xzf").arg(bundle).args(["--strip-components", "1", "-C"]).arg(folder.path());
    assert!(tar.status().unwrap().success());
    let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
    let read = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
    };
    let mut files: Vec<_> = entries.map(read).collect();
    files.sort();
    files
}

/// What has to be in it to be of help.
fn check(files: &[(String, String)], is_running: bool) {
    let configuration = file(files, "configuration.toml");
    for line in ["environment = \"test\"", "central.auth_key = \"(removed)\"", "backup.keep = 7"] {
        assert!(configuration.contains(line), "{line}: {configuration}");
    }
    assert!(file(files, "versions.txt").starts_with(concat!("iotsocketd ", env!("CARGO_PKG_VERSION"))));
    assert!(file(files, "blackbox.csv").contains(",started "), "the start is in the black box");
    assert!(file(files, "why.txt").contains("it started"));
    assert!(file(files, "events.ndjson").contains("\"kind\":\"access\""), "a device was added");
    let (status, metrics) = (file(files, "status.json"), file(files, "metrics.txt"));
    if is_running {
        assert!(status.contains("\"uptime_seconds\"") && metrics.contains("iotsocketd_ready 1"));
    } else {
        assert!(
            status.contains("no concentrator is running") && metrics.contains("no concentrator is running")
        );
    }
}

fn file<'a>(files: &'a [(String, String)], name: &str) -> &'a str {
    &files.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("{name}")).1
}

/// A site with every kind of secret, of which none may be seen. They are spelled so that no other text is like them.
#[test]
fn no_secret_of_a_site_is_in_it() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    let secret_file = |name: &str, text: &str| {
        fs::write(site.path(name), text).unwrap();
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    let central = "5ec0de5ec0de5ec0de5ec0de5ec0de51";
    let signing = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";
    let sha256 = "5ec0de5ec0de5ec0de5ec0de5ec0de515ec0de5ec0de5ec0de5ec0de5ec0de52";
    secret_file("central.key", central);
    secret_file("iotsocketd.toml", &site.read("iotsocketd.toml"));
    site.set("central", "auth_key", &format!("\"{central}\""));
    let text = site.read("iotsocketd.toml").replace("auth_key_file = ", "#auth_key_file = ");
    secret_file("iotsocketd.toml", &(text + "# comment-of-somebody\n"));
    secret_file("erp.secret", signing);
    secret_file("partner.password", "password-in-a-file");
    site.set("backup", "copy_to", "\"https://127.0.0.1:1/path-that-lets-in/?sig=query-that-lets-in\"");
    site.set("central.webhooks", "request", "\"http://127.0.0.1:1/hook-that-lets-in\"");
    site.append(&format!(
        "[[api.key]]\nname = \"grafana\"\nsha256 = \"{sha256}\"\nrights = [\"read\"]\n\
         [ingest.one]\nformat = \"plain\"\ngroup = \"Devices\"\nbasic_user = \"user-of-the-network\"\nbasic_password = \"password-in-the-text\"\n\
         [ingest.two]\nformat = \"plain\"\ngroup = \"Devices\"\nbasic_user = \"user-of-the-network\"\nbasic_password_file = \"partner.password\"\n\
         [subscribers.erp]\nurl = \"https://127.0.0.1:1/subscriber-that-lets-in\"\nsecret_file = \"erp.secret\"\n\
         [subscribers.crm]\nurl = \"https://127.0.0.1:1/subscriber-that-lets-in\"\nsecret = \"{signing}\"\n"
    ));
    site.start();
    let (mut object, token) = site.login_with_token(pump);
    site.telemetry(token, Format::Json, br#"{"reading":"payload-of-a-device"}"#);
    eventually("it is on flash", || stored(&site) == 1);
    object.send(&request(None, 1, b"payload-of-a-request"));
    let added = site.run(&["device", "add", "pump-2", "--group", "Devices"]);
    assert_eq!(added.code, 0, "{}", added.err);
    let printed = added.out.lines().last().unwrap().trim().to_owned();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let key = fs::read_to_string(site.path("tls/server.key")).unwrap();
    let secrets = [
        central.to_owned(),
        hex(&pump.key.0),
        printed,
        hex(&token.0),
        signing.to_owned(),
        "c2VjcmV0c2Vj".to_owned(),
        sha256.to_owned(),
        "password-in-a-file".to_owned(),
        "password-in-the-text".to_owned(),
        "user-of-the-network".to_owned(),
        "that-lets-in".to_owned(),
        "comment-of-somebody".to_owned(),
        "payload-of-a-device".to_owned(),
        "payload-of-a-request".to_owned(),
        key.lines().nth(1).unwrap().to_owned(),
    ];
    eventually("the change of the list is on flash", || {
        site.http().get("/v1/messages?kind=access").text().contains("\"kind\":\"access\"")
    });
    eventually("the black box has begun", || site.run(&["why"]).code == 0);
    for (round, words) in ["running", "stopped"].iter().enumerate() {
        if round == 1 {
            site.stop();
        }
        let bundle = site.path(&format!("{words}.tar.gz"));
        let ran = site.run(&["support-bundle", bundle.to_str().unwrap()]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert_eq!(fs::metadata(&bundle).unwrap().permissions().mode() & 0o777, 0o600);
        let files = unpack(&bundle);
        for (name, text) in &files {
            let text = text.to_lowercase();
            for secret in &secrets {
                assert!(secret.len() > 8 && !text.contains(&secret.to_lowercase()), "{secret} is in {name}");
            }
            assert!(!text.is_empty(), "{name}");
        }
        check(&files, round == 0);
    }
    // Written over nothing.
    let ran = site.run(&["support-bundle", site.path("running.tar.gz").to_str().unwrap()]);
    assert!(ran.code == 1 && ran.err.contains("exists already"), "{}", ran.err);
}
