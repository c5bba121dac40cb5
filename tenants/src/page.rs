//! Pages of a list (AIP-158).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::limits::{DEFAULT_PAGE_SIZE, MAX_ANSWER_OCTETS, MAX_PAGE_SIZE};
use crate::violation::Violations;

/// Objects of one page.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// In the order of names.
    pub items: Vec<T>,
    /// Asks for the next page; empty on the last one.
    pub next_page_token: String,
}

/// Which page is wanted. A token names the last object of the page before, so that a list is not disturbed by
/// what is created or deleted meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// What is listed: a token is good for the same list only.
    parent: String,
    size: usize,
    after: Option<String>,
}

impl PageRequest {
    /// From the fields of a request.
    pub fn parse(parent: &str, page_size: i32, page_token: &str) -> Result<Self, Violations> {
        let size = match page_size {
            0 => DEFAULT_PAGE_SIZE,
            size => usize::try_from(size)
                .map_err(|_| Violations::one("page_size", format!("{size} is negative")))?
                .min(MAX_PAGE_SIZE),
        };
        let after = match page_token {
            "" => None,
            token => Some(decode(parent, token).ok_or_else(|| {
                Violations::one("page_token", "not a next_page_token of this list; begin again without one")
            })?),
        };
        Ok(Self { parent: parent.to_owned(), size, after })
    }

    /// Name of the last object of the page before.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Cuts a page out of objects that follow [`Self::after`] and take so many octets in an answer: a page ends before it has more than
    /// [`MAX_ANSWER_OCTETS`] of them, but for one object that has.
    pub fn cut_by<T>(
        &self,
        rest: impl Iterator<Item = T>,
        name: impl Fn(&T) -> String,
        octets: impl Fn(&T) -> usize,
    ) -> Page<T> {
        self.cut_at(rest, name, octets, MAX_ANSWER_OCTETS)
    }

    fn cut_at<T>(
        &self,
        rest: impl Iterator<Item = T>,
        name: impl Fn(&T) -> String,
        octets: impl Fn(&T) -> usize,
        most: usize,
    ) -> Page<T> {
        let (mut items, mut total) = (Vec::new(), 0usize);
        for item in rest {
            total = total.saturating_add(octets(&item));
            if items.len() == self.size || (total > most && !items.is_empty()) {
                let last = items.last().map(|last| encode(&self.parent, &name(last)));
                return Page { items, next_page_token: last.unwrap_or_default() };
            }
            items.push(item);
        }
        Page { items, next_page_token: String::new() }
    }
}

fn encode(parent: &str, last: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{parent}\n{last}"))
}

fn decode(parent: &str, token: &str) -> Option<String> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (listed, last) = text.split_once('\n')?;
    (listed == parent).then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_cover_the_list_once(count in 0usize..50, size in 1i32..20) {
            let names: Vec<String> = (0..count).map(|i| format!("n{i:03}")).collect();
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let request = PageRequest::parse("tenants/-", size, &token).unwrap();
                let rest = names.iter().filter(|name| request.after().is_none_or(|after| name.as_str() > after));
                let page = request.cut_by(rest.cloned(), String::clone, String::len);
                prop_assert!(page.items.len() <= size as usize);
                seen.extend(page.items);
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, names);
        }

        #[test]
        fn pages_of_a_size_in_octets_cover_the_list_once(sizes in prop::collection::vec(0usize..40, 0..30)) {
            let names: Vec<_> = sizes.iter().enumerate().map(|(i, size)| (format!("n{i:03}"), *size)).collect();
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let request = PageRequest::parse("tenants/-", 7, &token).unwrap();
                let rest =
                    names.iter().filter(|(name, _)| request.after().is_none_or(|after| name.as_str() > after));
                let page = request.cut_at(rest.cloned(), |(name, _)| name.clone(), |(_, size)| *size, 50);
                let octets: usize = page.items.iter().map(|(_, size)| size).sum();
                prop_assert!(page.items.len() <= 7 && octets <= 50);
                seen.extend(page.items);
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, names);
        }

        #[test]
        fn any_token_is_refused_without_a_panic(token in "\\PC+") {
            let _ = PageRequest::parse("tenants/-", 0, &token);
        }
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let token = encode("tenants/a", "x");
        assert!(PageRequest::parse("tenants/a", 0, &token).is_ok());
        assert!(PageRequest::parse("tenants/b", 0, &token).is_err());
        assert!(PageRequest::parse("tenants/b", -1, "").is_err());
    }
}
