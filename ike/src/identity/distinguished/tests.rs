//! Names as text, as octets, and as the library has them.

use openssl::x509::{X509Name, X509NameBuilder};
use proptest::prelude::*;

use super::*;
use crate::identity::Identity;
use crate::wire::numbers::IdType;

fn id(data: Vec<u8>) -> Identity {
    Identity { kind: IdType::ID_DER_ASN1_DN, data }
}

#[test]
fn names_read_and_print_in_the_order_of_their_octets() {
    for (read, printed) in [
        ("C=CH, O=Acme, CN=gw.acme.example", "C=CH, O=Acme, CN=gw.acme.example"),
        (" cn = gw ,o=Acme  Inc ", "CN=gw, O=Acme  Inc"),
        ("/C=CH/O=Acme, Inc./CN=gw", "C=CH, O=Acme\\, Inc., CN=gw"),
        ("O=\"Acme, Inc.\", CN=gw", "O=Acme\\, Inc., CN=gw"),
        ("O=Acme\\2C Inc.,E=a@acme.example", "O=Acme\\, Inc., emailAddress=a@acme.example"),
        ("DC=example+UID=7", "UID=7+DC=example"),
        ("CN=Z\\C3\\BCrich", "CN=Z\u{fc}rich"),
        ("CN=\\ a\\ ", "CN=\\ a\\ "),
        ("CN=#130161", "CN=a"),
        ("1.3.6.1.4.1.36149=x, 2.999.1=#0500", "1.3.6.1.4.1.36149=x, 2.999.1=#0500"),
        ("CN=\\00\\#\\=", "CN=\\00#="),
        ("asn1dn:#300d310b3009060355040313026777", "CN=gw"),
        ("CN=https://acme.example", "CN=https://acme.example"),
    ] {
        let name: Identity = read.parse().unwrap();
        assert_eq!((name.kind, name.to_string().as_str()), (IdType::ID_DER_ASN1_DN, printed), "{read}");
        assert_eq!(printed.parse::<Identity>().unwrap(), name, "{read}");
    }
}

#[test]
fn what_is_wrong_with_a_name_is_said() {
    for (text, said) in [
        ("CN=", "CN: it has no value"),
        ("CN=a, b", "\"b\" is no part of a name"),
        ("CN=a,", "\"\" is no part"),
        ("SN=1", "\"SN\" is no attribute; expected one of CN, C, ST, "),
        ("3.1=a", "\"3.1\" is no attribute"),
        ("CN=a+b", "\"b\" is no part"),
        ("CN=\"a", "CN: a quotation mark is not closed"),
        ("CN=a\\", "CN: it ends with a backslash"),
        ("CN=\\FF", "CN: it is not UTF-8"),
        ("asn1dn:#3000", "expected asn1dn:# and its DER"),
        ("asn1dn:CN=a", "\"asn1dn:CN=a\" is not a host name"),
        ("CN=#13", "CN: expected # and a value of DER"),
        ("CN=#1302616", "CN: expected # and a value of DER"),
    ] {
        let error = text.parse::<Identity>().unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    assert!(
        format!("CN={}", "\u{fc}".repeat(254)).parse::<Identity>().is_err(),
        "longer in DER than as text"
    );
}

#[test]
fn names_are_as_the_library_has_them() {
    let built = |entries: &[(&str, &str)]| {
        let mut name = X509NameBuilder::new().unwrap();
        for (field, value) in entries {
            name.append_entry_by_text(field, value).unwrap();
        }
        name.build()
    };
    for (text, entries) in [
        ("C=CH, O=Acme, CN=gw", &[("C", "CH"), ("O", "ACME"), ("CN", " gw")][..]),
        ("DC=example, UID=7, emailAddress=A@b", &[("DC", "example"), ("UID", "7"), ("emailAddress", "a@B")]),
        ("ST=Z\u{fc}rich, L=a b, OU=u", &[("ST", "Z\u{fc}rich"), ("L", "a  b "), ("OU", "U")]),
        (
            "serialNumber=1, surname=s, givenName=g, title=t, street=r, dnQualifier=q",
            &[
                ("serialNumber", "1"),
                ("SN", "s"),
                ("GN", "g"),
                ("title", "t"),
                ("street", "r"),
                ("dnQualifier", "q"),
            ],
        ),
    ] {
        let (ours, theirs) = (text.parse::<Identity>().unwrap(), built(entries));
        let read = X509Name::from_der(&ours.data).unwrap();
        assert!(read.try_cmp(&theirs).unwrap().is_eq(), "{text}");
        assert_eq!(ours, id(theirs.to_der().unwrap()), "{text}");
        assert_ne!(ours, id(built(&[("CN", "other")]).to_der().unwrap()));
    }
}

#[test]
fn what_is_no_name_is_like_none() {
    let name: Identity = "CN=gw".parse().unwrap();
    let of = canonical(&name.data).unwrap();
    for data in [of.clone(), [&[1], &*of].concat(), [&[0], &*of].concat(), vec![], vec![0x30, 0]] {
        assert_ne!(id(data.clone()), name);
        assert_eq!(id(data.clone()), id(data));
    }
    // Parts and what is in them are not the same, nor is text and a value that looks like it.
    let same = |a: &str, b: &str| a.parse::<Identity>().unwrap() == b.parse::<Identity>().unwrap();
    assert!(!same("CN=a+OU=b", "CN=a, OU=b"));
    assert!(same("CN=a+OU=b", "ou=B+cn=A"));
    assert!(!same("CN=a, CN=b", "CN=b, CN=a"));
    assert!(!same("CN=a", "CN=#040161"));
    assert!(same("CN=a", "CN=#0c0141"));
    assert!(same("CN=a", "CN=#1e020041"));
}

proptest! {
    /// Whatever octets come, all that is asked of them is answered; and a name survives being written.
    #[test]
    fn octets_of_strangers_are_read(octets in proptest::collection::vec(any::<u8>(), 0..64)) {
        let one = der::written(SEQUENCE, &der::written(SET, &der::written(SEQUENCE, &octets)));
        for data in [octets, one] {
            let name = id(data);
            let text = name.to_string();
            prop_assert_eq!(&name, &name.clone());
            if distinguished_text(&name).is_some() {
                prop_assert_eq!(text.parse::<Identity>().ok(), Some(name));
            }
        }
    }

    #[test]
    fn a_name_survives_being_written(values in proptest::collection::vec((0..KINDS.len(), ".{1,20}", 0u8..8), 1..5)) {
        let part = |(kind, text, tag): &(usize, String, u8)| {
            let tag = [UTF8, PRINTABLE, IA5, TELETEX, NUMERIC, VISIBLE, BMP, 0x04][usize::from(*tag)];
            let pair = [der::written(OID, KINDS[*kind].oid), der::written(tag, text.as_bytes())].concat();
            der::written(SET, &der::written(SEQUENCE, &pair))
        };
        let name = id(der::written(SEQUENCE, &values.iter().flat_map(part).collect::<Vec<_>>()));
        let text = name.to_string();
        prop_assert_eq!(text.parse::<Identity>(), Ok(name), "{}", text);
    }
}

fn distinguished_text(name: &Identity) -> Option<String> {
    text(&name.data)
}
