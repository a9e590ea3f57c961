//! An S3 that is not ours: moto's server, on a port of its own.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};

use reqwest::Client;
use tokio::runtime::Runtime;

use super::readers::python;
use super::wait::{PATIENCE, wait_until};

/// The server; it ends with this.
pub struct S3 {
    server: Child,
    endpoint: String,
    runtime: Runtime,
}

impl S3 {
    /// Starts it; what it says goes into a file in `dir`.
    pub fn start(dir: &Path) -> S3 {
        let log = dir.join("s3.log");
        let file = File::create(&log).unwrap();
        let server = python()
            .args(["-m", "moto.server", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let endpoint = wait_until("an S3 server", PATIENCE, || {
            let said = std::fs::read_to_string(&log).unwrap();
            let (_, rest) = said.split_once("Running on ")?;
            // The line is there as a whole.
            let (endpoint, _) = rest.split_once('\n')?;
            Some(endpoint.to_owned())
        });
        S3 {
            server,
            endpoint,
            runtime: Runtime::new().unwrap(),
        }
    }

    /// Makes a bucket.
    pub fn create(&self, bucket: &str) {
        self.put(bucket, "");
    }

    /// Puts an object there, by bucket and name.
    pub fn put(&self, name: &str, body: impl Into<reqwest::Body>) {
        let url = format!("{}/{name}", self.endpoint);
        let sent = Client::new().put(url).body(body).send();
        let answer = self.runtime.block_on(sent).unwrap();
        assert!(answer.status().is_success(), "{name}: {}", answer.status());
    }

    /// What tells a client of it.
    pub fn variables(&self) -> [(&str, &str); 5] {
        [
            ("AWS_ENDPOINT", &self.endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ]
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
