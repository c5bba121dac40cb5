//! Builds octets with length fields filled in afterwards.

/// Appends big-endian fields to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub const fn new() -> Self {
        Self { out: Vec::new() }
    }

    /// One octet.
    pub fn u8(&mut self, v: u8) {
        self.out.push(v);
    }

    /// Two octets.
    pub fn u16(&mut self, v: u16) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }

    /// Four octets.
    pub fn u32(&mut self, v: u32) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }

    /// Eight octets.
    pub fn u64(&mut self, v: u64) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }

    /// Octets as they are.
    pub fn bytes(&mut self, v: &[u8]) {
        self.out.extend_from_slice(v);
    }

    /// Whether nothing was written yet.
    pub const fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Octets written so far.
    pub const fn len(&self) -> usize {
        self.out.len()
    }

    /// Writes what `body` writes, with a two-octet length at `at` octets from its start that counts all of it.
    /// `body` must write at least `at + 2` octets itself, the length field as a placeholder.
    pub fn with_length(&mut self, at: usize, body: impl FnOnce(&mut Self)) {
        let start = self.out.len();
        body(self);
        let length = u16::try_from(self.out.len() - start).unwrap_or(u16::MAX);
        if let Some(field) = self.out.get_mut(start + at..start + at + 2) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Overwrites four octets at `at`.
    pub fn patch_u32(&mut self, at: usize, v: u32) {
        if let Some(field) = self.out.get_mut(at..at + 4) {
            field.copy_from_slice(&v.to_be_bytes());
        }
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// What was written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }
}
