//! What tshark makes of our messages, with their keys, is what we mean by them: every payload, every field it has a name
//! for, in order.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    unused_crate_dependencies
)]

mod kit;

use std::collections::BTreeMap;
use std::process::Command as Process;

use ike::LoggedKeys;
use ike::wire::TrafficSelector;
use ike::wire::header::Header;
use ike::wire::message::Message;
use ike::wire::numbers::ExchangeType;
use ike::wire::payload::Payload;
use ike::{Command, Transmit};
use kit::tap::Tap;
use kit::{A, B, Pair, Spec, Who, ts};

/// Fields by Wireshark's names, each with its values in the order of the message.
type Fields = BTreeMap<&'static str, Vec<String>>;

const FIELDS: [&str; 31] = [
    "isakmp.ispi",
    "isakmp.rspi",
    "isakmp.version",
    "isakmp.exchangetype",
    "isakmp.flag_i",
    "isakmp.flag_r",
    "isakmp.messageid",
    "isakmp.length",
    "isakmp.typepayload",
    "isakmp.prop.number",
    "isakmp.prop.protoid",
    "isakmp.prop.transforms",
    "isakmp.tf.type",
    "isakmp.tf.id.encr",
    "isakmp.tf.id.prf",
    "isakmp.tf.id.integ",
    "isakmp.tf.id.dh",
    "isakmp.tf.id.esn",
    "isakmp.key_exchange.dh_group",
    "isakmp.key_exchange.data",
    "isakmp.nonce",
    "isakmp.id.type",
    "isakmp.id.data.fqdn",
    "isakmp.auth.method",
    "isakmp.auth.data",
    "isakmp.notify.msgtype",
    "isakmp.notify.data",
    "isakmp.delete.protoid",
    "isakmp.delete.spi",
    "isakmp.ts.start_ipv4",
    "isakmp.ts.end_ipv4",
];

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The fields of a message as we mean them.
fn ours(header: &Header, length: usize, encrypted: bool, payloads: &[Payload]) -> Fields {
    let mut fields: Fields = BTreeMap::new();
    let mut add = |name: &'static str, value: String| fields.entry(name).or_default().push(value);
    add("isakmp.ispi", format!("{:016x}", header.spi_i));
    add("isakmp.rspi", format!("{:016x}", header.spi_r));
    add("isakmp.version", "0x20".to_owned());
    add("isakmp.exchangetype", header.exchange.0.to_string());
    add("isakmp.flag_i", u8::from(header.from_initiator).to_string());
    add("isakmp.flag_r", u8::from(header.response).to_string());
    add("isakmp.messageid", format!("0x{:08x}", header.message_id));
    add("isakmp.length", length.to_string());
    if encrypted {
        add("isakmp.typepayload", "46".to_owned());
    }
    for payload in payloads {
        add("isakmp.typepayload", payload.kind().0.to_string());
        match payload {
            Payload::Sa(proposals) => {
                for proposal in proposals {
                    // Wireshark shows proposals and transforms as payloads of types 2 and 3, as their headers say.
                    add("isakmp.typepayload", "2".to_owned());
                    add("isakmp.prop.number", proposal.number.to_string());
                    add("isakmp.prop.protoid", proposal.protocol.0.to_string());
                    add("isakmp.prop.transforms", proposal.transforms.len().to_string());
                    for transform in &proposal.transforms {
                        add("isakmp.typepayload", "3".to_owned());
                        add("isakmp.tf.type", transform.kind.0.to_string());
                        let kind = ["encr", "prf", "integ", "dh", "esn"][usize::from(transform.kind.0) - 1];
                        let name = FIELDS.iter().find(|f| **f == format!("isakmp.tf.id.{kind}")).unwrap();
                        add(name, transform.id.to_string());
                    }
                }
            }
            Payload::Ke { group, data } => {
                add("isakmp.key_exchange.dh_group", group.to_string());
                add("isakmp.key_exchange.data", hex(data));
            }
            Payload::Nonce(nonce) => add("isakmp.nonce", hex(nonce)),
            Payload::IdI(id) | Payload::IdR(id) => {
                let octets = id.body();
                add("isakmp.id.type", octets[0].to_string());
                add("isakmp.id.data.fqdn", String::from_utf8(octets[4..].to_vec()).unwrap());
            }
            Payload::Auth { method, data } => {
                add("isakmp.auth.method", method.0.to_string());
                add("isakmp.auth.data", hex(data));
            }
            Payload::Notify(notify) => {
                add("isakmp.notify.msgtype", notify.kind.0.to_string());
                add("isakmp.notify.data", hex(&notify.data));
            }
            Payload::Delete { protocol, spis } => {
                add("isakmp.delete.protoid", protocol.0.to_string());
                spis.iter().for_each(|spi| add("isakmp.delete.spi", format!("{spi:08x}")));
            }
            Payload::TsI(selectors) | Payload::TsR(selectors) => {
                for TrafficSelector { start, end, .. } in selectors {
                    add("isakmp.ts.start_ipv4", start.to_string());
                    add("isakmp.ts.end_ipv4", end.to_string());
                }
            }
            Payload::Opaque(..) => {}
        }
    }
    fields
}

/// Two of our own, and all that they send each other.
struct Wire {
    pair: Pair,
    tap: Tap,
    messages: Vec<(Transmit, Fields)>,
    keys: BTreeMap<(u64, u64), String>,
}

impl Wire {
    fn new(ike: &'static str, esp: &'static str) -> Self {
        let spec = |s: Spec| Spec { ike: vec![ike], esp: vec![esp], ..s };
        // Several policies, so that a window is stated.
        let [left, right] = Spec::with_policies(3);
        let left = Spec { local: vec![ts("10.1.0.0", "10.1.255.255"), ts("10.7.0.9", "10.7.0.12")], ..left };
        let right = Spec { remote: left.local.clone(), ..right };
        let pair = Pair::new(&spec(left), &spec(right));
        Self { pair, tap: Tap::default(), messages: Vec::new(), keys: BTreeMap::new() }
    }

    fn step(&mut self, from: Who) {
        let message = self.pair.take(from);
        self.tap.saw(&message.bytes, [&self.pair.a.host.draws, &self.pair.b.host.draws]);
        let parsed = Message::parse(&message.bytes).unwrap();
        let encrypted = parsed.header.exchange != ExchangeType::IKE_SA_INIT;
        let spis = (parsed.header.spi_i, parsed.header.spi_r);
        let payloads = if encrypted {
            self.tap.sas.iter().find(|sa| (sa.spi_i, sa.spi_r) == spis).unwrap().open(&message.bytes).unwrap()
        } else {
            parsed.chain.payloads.clone()
        };
        let fields = ours(&parsed.header, message.bytes.len(), encrypted, &payloads);
        self.pair.put(from, &message);
        self.messages.push((message, fields));
        for side in [&self.pair.a, &self.pair.b] {
            for keys in side.conn.iter().flat_map(|conn| conn.logged_keys()) {
                let LoggedKeys::V2 { spi_i: i, spi_r: r, choice, encryption, integrity } = keys else {
                    panic!("keys of IKEv1")
                };
                let [ei, er] = encryption.each_ref().map(|key| hex(key));
                let [ai, ar] = integrity.each_ref().map(|key| hex(key));
                let bits = choice.encr.key_bits.unwrap();
                let (encryption, integrity) = match choice.integ {
                    None => (format!("AES-GCM-{bits} with 16 octet ICV [RFC5282]"), "NONE [RFC4306]"),
                    Some(_) => (format!("AES-CBC-{bits} [RFC3602]"), "HMAC_SHA2_256_128 [RFC4868]"),
                };
                let line =
                    format!("{i:016x},{r:016x},{ei},{er},\"{encryption}\",{ai},{ar},\"{integrity}\"\n");
                self.keys.insert((i, r), line);
            }
        }
    }

    fn settle(&mut self) {
        loop {
            match (self.pair.a.outbox.is_empty(), self.pair.b.outbox.is_empty()) {
                (false, _) => self.step(A),
                (_, false) => self.step(B),
                _ => return,
            }
        }
    }

    fn command(&mut self, who: Who, command: Command) {
        self.pair.command(who, command);
        self.settle();
    }

    /// A capture file of UDP port 500 in raw IPv4.
    fn capture(&self) -> Vec<u8> {
        let mut file: Vec<u8> =
            [0xa1b2_c3d4u32, 0x0002_0004, 0, 0, 65535, 101].map(u32::to_be_bytes).concat();
        for (message, _) in &self.messages {
            let (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) =
                (message.local.ip(), message.remote.ip())
            else {
                panic!("IPv4 is used here")
            };
            let udp = u16::try_from(message.bytes.len() + 8).unwrap();
            let ip = udp + 20;
            file.extend([0, 0, u32::from(ip), u32::from(ip)].map(u32::to_be_bytes).concat());
            file.extend([[0x45, 0], ip.to_be_bytes(), [0; 2], [0; 2], [64, 17], [0; 2]].concat());
            file.extend(from.octets().into_iter().chain(to.octets()));
            file.extend([500, 500, udp, 0].map(u16::to_be_bytes).concat());
            file.extend(&message.bytes);
        }
        file
    }
}

/// What tshark reads in the capture, message by message.
fn theirs(wire: &Wire) -> Vec<Fields> {
    let directory = std::env::temp_dir().join(format!("culvert-tshark-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let capture = directory.join("messages.pcap");
    std::fs::write(&capture, wire.capture()).unwrap();
    std::fs::write(directory.join("ikev2_decryption_table"), wire.keys.values().cloned().collect::<String>())
        .unwrap();
    let mut tshark = Process::new("tshark");
    tshark.env("WIRESHARK_CONFIG_DIR", &directory).env("HOME", &directory).arg("-r").arg(&capture);
    tshark.args(["-Tfields", "-Eseparator=|", "-Eoccurrence=a", "-Eaggregator=;"]);
    for field in FIELDS.iter().chain(&["_ws.malformed"]) {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(&directory).unwrap();
    let read = |line: &str| {
        let mut fields = Fields::new();
        let mut values = line.split('|');
        for name in FIELDS {
            let list = values.next().unwrap_or_default();
            if !list.is_empty() {
                fields.insert(name, list.split(';').map(str::to_owned).collect());
            }
        }
        assert_eq!(values.next(), Some(""), "malformed: {line}");
        fields
    };
    text.lines().map(read).collect()
}

fn agree(ike: &'static str, esp: &'static str) {
    if Process::new("tshark").arg("-v").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI must not skip this: tshark is missing");
        eprintln!("skipped: needs tshark");
        return;
    }
    let mut wire = Wire::new(ike, esp);
    wire.pair.initiate();
    wire.settle();
    for who in [A, B] {
        let spi = wire.pair.spi(who);
        wire.command(who, Command::RekeyChild(spi));
        wire.command(who, Command::RekeyIke);
    }
    wire.command(B, Command::CreateChild("net".into()));
    let spi = wire.pair.spi(A);
    wire.command(A, Command::DeleteChild(spi));
    wire.command(A, Command::Close);
    assert!(wire.messages.len() > 20, "{} messages", wire.messages.len());
    let theirs = theirs(&wire);
    assert_eq!(theirs.len(), wire.messages.len());
    for (number, ((_, ours), theirs)) in wire.messages.iter().zip(&theirs).enumerate() {
        for name in FIELDS {
            let of = |fields: &Fields| -> Vec<String> {
                let values = fields.get(name).cloned().unwrap_or_default();
                // An absent field and an empty one look the same in a table.
                values.into_iter().filter(|value| !value.is_empty() && value != "<MISSING>").collect()
            };
            assert_eq!(of(ours), of(theirs), "{ike}: message {number}, {name}");
        }
    }
}

#[test]
fn tshark_reads_what_we_mean_with_an_aead() {
    agree("aes256gcm16-prfsha384-ecp256", "aes128gcm16-x25519");
}

#[test]
fn tshark_reads_what_we_mean_with_cbc() {
    agree("aes128-sha256-modp2048", "aes256-sha256-esn");
}
