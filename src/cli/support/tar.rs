//! A tar archive of a few files from memory, gzipped: what every machine can unpack.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

const BLOCK: usize = 512;

/// Writes these files, below a folder, with the time in seconds since 1970.
pub(super) fn write(out: impl Write, folder: &str, files: &[(&str, String)], time: i64) -> io::Result<()> {
    let mut out = GzEncoder::new(out, Compression::default());
    for (name, text) in files {
        out.write_all(&header(&format!("{folder}/{name}"), text.len(), time))?;
        out.write_all(text.as_bytes())?;
        out.write_all(&vec![0; text.len().next_multiple_of(BLOCK) - text.len()])?;
    }
    out.write_all(&[0; 2 * BLOCK])?;
    out.finish()?.flush()
}

/// As POSIX has it (ustar).
fn header(name: &str, len: usize, time: i64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| {
        header.iter_mut().skip(at).zip(text.bytes()).for_each(|(byte, letter)| *byte = letter);
    };
    put(0, name);
    put(100, "0000600");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{len:011o}"));
    put(136, &format!("{:011o}", time.max(0)));
    // The sum is reckoned as if blanks stood in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    header.iter_mut().skip(148).zip(sum.bytes()).for_each(|(byte, letter)| *byte = letter);
    header
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// The system's own tar reads it.
    #[test]
    fn it_is_unpacked_by_tar() {
        let folder = tempfile::tempdir().unwrap();
        let files = [("empty", String::new()), ("one", "x".repeat(512)), ("two", "é\n".repeat(1000))];
        let path = folder.path().join("a.tar.gz");
        write(std::fs::File::create(&path).unwrap(), "below", &files, 1_795_780_800).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["xzf", "a.tar.gz"]).current_dir(folder.path()).stderr(Stdio::inherit());
        assert!(tar.status().unwrap().success());
        for (name, text) in files {
            assert_eq!(std::fs::read_to_string(folder.path().join("below").join(name)).unwrap(), text);
        }
        let modified = folder.path().join("below/one").metadata().unwrap().modified().unwrap();
        let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_secs(), 1_795_780_800);
    }
}
