//! The files by which a connection knows whom to trust, and by which it shows who it is.

use std::path::{Path, PathBuf};

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};

/// PEM files for `amqps://`. They are read anew for every connection: a certificate that was renewed needs no restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that may have signed the broker's, besides those that the system knows.
    pub ca: Option<PathBuf>,
    /// What to show to a broker that asks who is calling.
    pub identity: Option<IdentityFiles>,
}

/// A client's certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, followed by those between it and the authority, if there are any.
    pub cert: PathBuf,
    /// The private key, not encrypted.
    pub key: PathBuf,
}

/// Why a file cannot be used. Never contains what is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds something else than it should.
    #[error("{} holds no {wanted} in PEM", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// Nobody is there to type the password.
    #[error("the private key in {} is encrypted: store it without a password, readable by this process alone", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
}

/// A connection that the broker ended before a word of AMQP.
///
/// With TLS 1.3 a client has finished its handshake before the broker looks at the client's certificate. The alert that would name
/// what is wrong is lost whenever the broker's reset overtakes it.
#[derive(Debug, thiserror::Error)]
#[error(
    "the broker ended the connection at the TLS handshake; it may not accept the certificate that it was shown, or miss one"
)]
pub(super) struct EndedAtHandshake(#[source] pub(super) lapin::Error);

impl TlsFiles {
    /// Checks that the files are there and hold what they should, as far as that shows without a broker.
    ///
    /// # Errors
    ///
    /// [`TlsFileError`] names the first file that cannot be used.
    pub fn check(&self) -> Result<(), TlsFileError> {
        self.read().map(drop)
    }

    /// Reads what lapin wants to have.
    pub(super) fn read(&self) -> Result<OwnedTLSConfig, TlsFileError> {
        let cert_chain = self.ca.as_deref().map(certificates).transpose()?;
        let identity = self.identity.as_ref().map(|files| {
            Ok::<_, TlsFileError>(OwnedIdentity::PKCS8 {
                pem: certificates(&files.cert)?.into_bytes(),
                key: key(&files.key)?.into_bytes(),
            })
        });
        Ok(OwnedTLSConfig {
            identity: identity.transpose()?,
            cert_chain,
        })
    }
}

fn certificates(path: &Path) -> Result<String, TlsFileError> {
    let text = read(path)?;
    if text.contains("-----BEGIN CERTIFICATE-----") {
        Ok(text)
    } else {
        let path = path.to_owned();
        let wanted = "certificate";
        Err(TlsFileError::Wrong { path, wanted })
    }
}

fn key(path: &Path) -> Result<String, TlsFileError> {
    let text = read(path)?;
    let path = path.to_owned();
    // The second is how keys of OpenSSL's own older format say it.
    if text.contains("ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
        Err(TlsFileError::Encrypted { path })
    } else if text.contains("PRIVATE KEY-----") {
        Ok(text)
    } else {
        let wanted = "private key";
        Err(TlsFileError::Wrong { path, wanted })
    }
}

fn read(path: &Path) -> Result<String, TlsFileError> {
    std::fs::read_to_string(path).map_err(|source| TlsFileError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(cert: &str, key: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = TlsFiles {
            ca: None,
            identity: Some(IdentityFiles {
                cert: file("cert", cert),
                key: file("key", key),
            }),
        };
        files.check().unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_holds_something_else_is_named_and_not_shown() {
        const CERT: &str = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";
        assert!(refusal("-----BEGIN PRIVATE KEY-----\nhunter2", "").ends_with("/cert holds no certificate in PEM"));
        assert!(refusal(CERT, CERT).ends_with("/key holds no private key in PEM"));
        let encrypted = refusal(CERT, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter2");
        assert!(
            encrypted.contains("is encrypted") && !encrypted.contains("hunter2"),
            "{encrypted}"
        );
        let missing = TlsFiles {
            ca: Some("/nowhere/ca.pem".into()),
            identity: None,
        };
        assert_eq!(missing.check().unwrap_err().to_string(), "cannot read /nowhere/ca.pem");
        TlsFiles::default().check().unwrap();
    }
}
