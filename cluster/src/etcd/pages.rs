//! Many keys, a page at a time.

use culvert_proto::etcd::{KeyValue, RangeRequest};

use super::{Etcd, EtcdError};

/// Keys of a page at most: small ones are a few hundred octets.
const MAX_KEYS: usize = 2_000;
/// Octets that a page is meant to have: far below the greatest answer, and not long on the way.
const PAGE: usize = 4 << 20;

impl Etcd {
    /// All keys from `key` up to `range_end`, of one moment: a revision of etcd, or 0 for now. Which one it was comes with them.
    pub(crate) async fn all(
        &self,
        mut key: Vec<u8>,
        range_end: Vec<u8>,
        mut revision: i64,
    ) -> Result<(Vec<KeyValue>, i64), EtcdError> {
        let (mut found, mut most) = (Vec::new(), MAX_KEYS);
        loop {
            let request = RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                limit: most as i64,
                revision,
                ..RangeRequest::default()
            };
            let page = match self.range(request).await {
                // Nobody knows how large keys are before they are there.
                Err(EtcdError::TooLarge { .. }) if most > 1 => {
                    most /= 2;
                    continue;
                }
                page => page?,
            };
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            most = most_after(&page.kvs);
            found.extend(page.kvs);
            match found.last().filter(|_| page.more) {
                // The key that follows.
                Some(last) => key = [last.key.as_slice(), &[0]].concat(),
                None => return Ok((found, revision)),
            }
        }
    }
}

/// Keys of the next page, if they are as large as these.
fn most_after(page: &[KeyValue]) -> usize {
    let octets: usize = page.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
    (PAGE * page.len()).checked_div(octets).unwrap_or(MAX_KEYS).clamp(1, MAX_KEYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_as_many_keys_as_its_octets_allow() {
        let page = |keys: usize, octets: usize| {
            let kv = KeyValue { value: vec![0; octets], ..KeyValue::default() };
            most_after(&vec![kv; keys])
        };
        assert_eq!(page(0, 0), MAX_KEYS);
        assert_eq!(page(2_000, 300), MAX_KEYS);
        assert_eq!(page(500, 16 << 10), 256);
        assert_eq!(page(1, PAGE + 1), 1);
    }
}
