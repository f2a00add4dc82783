//! `serve` and `load` with TLS, and their comparison with tokio-rustls. Needs the feature `tls`.
#![cfg(feature = "tls")]

mod support;

use std::path::PathBuf;

use support::{Serve, finish, json, scratch, tool};

/// A certificate for the loopback address and its key.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        let files = Self {
            certificate: scratch(&format!("{name}.pem")),
            key: scratch(&format!("{name}.key")),
        };
        std::fs::write(&files.certificate, made.cert.pem()).expect("to write");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("to write");
        files
    }

    fn serve(&self) -> Serve {
        let (certificate, key) = (self.certificate.to_str(), self.key.to_str());
        let [certificate, key] = [certificate, key].map(|path| path.expect("a plain path"));
        Serve::start(&["--tls-cert", certificate, "--tls-key", key])
    }
}

#[test]
fn load_checks_the_echo_of_a_server_with_tls() {
    let (files, figures) = (Files::new("echo"), scratch("tls-load.json"));
    let server = files.serve();
    let mut load = tool(&["load", "--addr", &server.addr(), "--tls", "--ca"]);
    load.arg(&files.certificate).arg("--json").arg(&figures);
    load.args(["--connections", "5", "--seconds", "0.2", "--size", "20000"]);
    let output = finish(&mut load);
    assert!(output.status.success(), "{output:?}");
    let figures = json(&figures);
    assert!(figures["load"]["frames"].as_u64() > Some(5), "{figures}");
}

#[test]
fn load_fails_if_the_server_is_not_trusted_or_has_no_tls() {
    let (files, others) = (Files::new("own"), Files::new("other"));
    for server in [files.serve(), Serve::start(&[])] {
        let mut load = tool(&["load", "--addr", &server.addr(), "--tls", "--ca"]);
        load.arg(&others.certificate).args(["--connections", "1"]);
        let output = finish(&mut load);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains("TLS"), "{complaint}");
    }
}

#[test]
fn certificate_without_a_key_and_unreadable_files_are_usage_errors() {
    let files = Files::new("half");
    let mut alone = tool(&["serve", "--addr", "127.0.0.1:0", "--tls-cert"]);
    let output = finish(alone.arg(&files.certificate));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let mut missing = tool(&["serve", "--addr", "127.0.0.1:0", "--tls-key"]);
    missing
        .arg(&files.key)
        .args(["--tls-cert", "/no/such/file"]);
    let output = finish(&mut missing);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("/no/such/file"), "{complaint}");
}

#[cfg(target_os = "linux")]
#[test]
fn comparison_measures_all_servers() {
    let figures = scratch("tls-compare.json");
    let mut compare = tool(&[
        "tls",
        "--connections",
        "5",
        "--rounds",
        "1",
        "--seconds",
        "0.1",
    ]);
    let output = finish(compare.arg("--json").arg(&figures));
    assert!(output.status.success(), "{output:?}");
    let figures = json(&figures);
    let servers = figures["servers"].as_array().expect("a list");
    assert_eq!(servers.len(), 3);
    for server in servers {
        assert!(server["opened_per_second"].as_f64() > Some(0.0), "{server}");
        let frames = server["frames_per_second"].as_array().expect("a list");
        assert!(
            frames.iter().all(|rate| rate.as_f64() > Some(0.0)),
            "{server}"
        );
    }
}
