//! The demo's concentrator: a folder with everything that `run` needs, gone at the end.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::central::Central;
use crate::cli::Failure;
use crate::cli::site::{NewFile, PUBLIC, SECRET, fresh_key, key_file, self_signed, write};
use crate::client::Tls;
use crate::client::load::{Api, Target};
use crate::hub::access_file::{self, key_to_hex};
use crate::router::access::AccessList;
use crate::service::Service;
use crate::service::config::{Config, Environment};
use crate::wire::{AclItem, AuthKey, GroupName, Uid};

const GROUP: &str = "Devices";

/// A temporary folder, removed when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing of value is in it; what cannot be removed, the system's temporary folder will lose some day.
        let _left = fs::remove_dir_all(&self.0);
    }
}

/// The demo's site.
pub struct Site {
    folder: Folder,
    certificate: CertificateDer<'static>,
    central_key: AuthKey,
    objects: Vec<(Uid, AuthKey)>,
}

impl Site {
    /// Makes the folder with keys, certificate, access list and configuration.
    pub fn make(objects: usize, central: &Central) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let path = std::env::temp_dir().join(format!("iotsocketd-demo-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::Failed(format!("{}: cannot be made: {error}", path.display())))?;
        let folder = Folder(path);
        let central_key = fresh_key()?;
        let (certificate, private_key) = self_signed(Environment::Test)?;
        let pinned = CertificateDer::from_pem_slice(&certificate).map_err(|error| failed(&error))?;
        let new = |path, content, mode| NewFile { path, content, mode };
        let files = [
            new("iotsocketd.toml", configuration(central).into_bytes(), PUBLIC),
            new("central.key", key_file(Environment::Test, &central_key), SECRET),
            new("tls/server.crt", certificate, PUBLIC),
            new("tls/server.key", private_key, SECRET),
        ];
        write(&folder.0, &files)?;

        let group = GroupName::parse(GROUP).map_err(|error| failed(&error))?;
        let mut items = Vec::new();
        for number in 1..=objects {
            let uid = Uid::parse(&format!("demo-{number}")).map_err(|error| failed(&error))?;
            items.push(AclItem { group, uid, key: fresh_key()? });
        }
        let objects = items.iter().map(|item| (item.uid, item.key)).collect();
        let list = AccessList::build(items, |known| *known == group).map_err(|error| failed(&error))?;
        fs::create_dir(folder.0.join("state")).map_err(|error| failed(&error))?;
        access_file::store(&folder.0.join("state/acl.json"), &list).map_err(|error| failed(&error))?;
        Ok(Self { folder, certificate: pinned, central_key, objects })
    }

    /// The configuration, read from its file as `run` would.
    pub fn config(&self) -> Result<Config, Failure> {
        let (mut config, _warnings) = Config::load(&self.file("iotsocketd.toml")).map_err(|mistakes| {
            Failure::Failed(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })?;
        // A file must name its ports; the demo takes what is free.
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.sessions.listen = any_port;
        config.telemetry.listen = any_port;
        config.api.listen = any_port;
        Ok(config)
    }

    /// Where the load goes, and as whom.
    pub fn target(&self, service: &Service) -> Result<Target, Failure> {
        let addresses = service.addresses();
        let tls = Tls::pinned(self.certificate.clone(), "localhost")
            .map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Target {
            sessions: addresses.sessions,
            tls: Some(tls.clone()),
            telemetry: Some(addresses.telemetry),
            api: Some(Api { address: addresses.api, tls: Some(tls), bearer: self.central_key }),
            central: None,
            objects: self.objects.clone(),
        })
    }

    /// A call that the newcomer can make.
    pub fn curl_line(&self, service: &Service) -> String {
        let SocketAddr::V4(api) = service.addresses().api else { return String::new() };
        format!(
            "curl --cacert {} https://localhost:{}/request \\\n    \
             -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' \\\n    \
             -d '{{\"UID\": \"demo-1\", \"Payload\": \"hello\", \"Format\": \"UTF8\"}}'",
            self.file("tls/server.crt").display(),
            api.port(),
            key_to_hex(&self.central_key)
        )
    }

    /// Where the console is, and the key that it asks for.
    pub fn console_line(&self, service: &Service) -> String {
        let port = service.addresses().api.port();
        format!("https://localhost:{port}/  (self-signed)  key {}", key_to_hex(&self.central_key))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.0.join(Path::new(name))
    }
}

fn configuration(central: &Central) -> String {
    let address = central.address();
    format!(
        r#"environment = "test"
state_dir = "state"

[central]
auth_key_file = "central.key"

[central.webhooks]
request = "http://{address}/request"
telemetry = "http://{address}/telemetry"

[groups.{GROUP}]
telemetry = true
"#
    )
}
