//! A key log in the form of Wireshark's tables, for who has to see what goes over his own wires. Off unless configured.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use esp::{Encryption, Integrity, Suite};
use ike::LoggedKeys;
use ike::crypto::keys::EspKeys;

/// The tables of a directory, in which Wireshark finds them if it is that of a profile.
#[derive(Debug)]
pub struct KeyLog {
    ike: Mutex<File>,
    ike_v1: Mutex<File>,
    esp: Mutex<File>,
}

impl KeyLog {
    /// Opens `ikev2_decryption_table` and `esp_sa` in the directory, readable by their owner alone.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let open = |name: &str| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(directory.join(name))
                .map(Mutex::new)
        };
        Ok(Self {
            ike: open("ikev2_decryption_table")?,
            ike_v1: open("ikev1_decryption_table")?,
            esp: open("esp_sa")?,
        })
    }

    /// Adds an IKE_SA.
    pub(crate) fn ike(&self, keys: &LoggedKeys) {
        match keys {
            LoggedKeys::V2 { spi_i, spi_r, choice, encryption, integrity } => {
                let [ei, er] = encryption.each_ref().map(|key| hex(key));
                let [ai, ar] = integrity.each_ref().map(|key| hex(key));
                let (encryption, integrity) = names(choice);
                let line = format!(
                    "{spi_i:016x},{spi_r:016x},{ei},{er},\"{encryption}\",{ai},{ar},\"{integrity}\"\n"
                );
                write(&self.ike, &line);
            }
            // Wireshark knows an IKE_SA of IKEv1 by its initiator's SPI.
            LoggedKeys::V1 { spi_i, key, .. } => write(&self.ike_v1, &format!("{spi_i:016x},{}\n", hex(key))),
        }
    }

    /// Adds one direction of a Child SA.
    pub(crate) fn esp(&self, spi: u32, suite: &Suite, keys: &EspKeys) {
        let encryption = match suite.encryption {
            Encryption::AesGcm16_128 | Encryption::AesGcm16_192 | Encryption::AesGcm16_256 => {
                "AES-GCM with 16 octet ICV [RFC4106]"
            }
            Encryption::AesCbc128 | Encryption::AesCbc192 | Encryption::AesCbc256 => "AES-CBC [RFC3602]",
            Encryption::TripleDesCbc => "TripleDES-CBC [RFC2451]",
            Encryption::ChaCha20Poly1305 => "ChaCha20 with Poly1305 [RFC7634]",
        };
        let integrity = match suite.integrity {
            None => "NULL",
            Some(Integrity::HmacSha256_128) => "HMAC-SHA-256-128 [RFC4868]",
            Some(Integrity::HmacSha384_192) => "HMAC-SHA-384-192 [RFC4868]",
            Some(Integrity::HmacSha512_256) => "HMAC-SHA-512-256 [RFC4868]",
            Some(Integrity::HmacMd5_96) => "HMAC-MD5-96 [RFC2403]",
            Some(Integrity::HmacSha1_96) => "HMAC-SHA-1-96 [RFC2404]",
            Some(Integrity::HmacSha256_96) => "HMAC-SHA-256-96 [draft-ietf-ipsec-ciph-sha-256-00]",
            Some(Integrity::AesXcbc96 | Integrity::AesCmac96) => "ANY 96 bit authentication [no checking]",
        };
        let key = hex(&keys.encryption);
        let check =
            if keys.integrity.is_empty() { String::new() } else { format!("0x{}", hex(&keys.integrity)) };
        for family in ["IPv4", "IPv6"] {
            let line = format!(
                "\"{family}\",\"*\",\"*\",\"0x{spi:08x}\",\"{encryption}\",\"0x{key}\",\"{integrity}\",\"{check}\"\n"
            );
            write(&self.esp, &line);
        }
    }
}

/// Wireshark's names of the algorithms.
fn names(choice: &ike::proposal::IkeChoice) -> (String, &'static str) {
    let bits = choice.encr.key_bits.unwrap_or(256);
    let encryption = match choice.encr.id {
        ike::proposal::table::AES_CBC => format!("AES-CBC-{bits} [RFC3602]"),
        ike::proposal::table::AES_GCM_16 => format!("AES-GCM-{bits} with 16 octet ICV [RFC5282]"),
        ike::proposal::table::TRIPLE_DES => "3DES [RFC2451]".to_owned(),
        _ => "ChaCha20 with Poly1305 [RFC7634]".to_owned(),
    };
    let integrity = match choice.integ.map(|integ| integ.id) {
        Some(1) => "HMAC_MD5_96 [RFC2403]",
        Some(2) => "HMAC_SHA1_96 [RFC2404]",
        Some(12) => "HMAC_SHA2_256_128 [RFC4868]",
        Some(13) => "HMAC_SHA2_384_192 [RFC4868]",
        Some(14) => "HMAC_SHA2_512_256 [RFC4868]",
        Some(_) => "ANY 96-bits of Authentication [No Checking]",
        None => "NONE [RFC4306]",
    };
    (encryption, integrity)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn write(file: &Mutex<File>, line: &str) {
    let outcome = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    if let Err(error) = outcome {
        tracing::warn!(%error, "cannot write the key log");
    }
}
