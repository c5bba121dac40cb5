//! The system call `bpf`: as much of it as one map and one program need.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::bpf_code::Instruction;

/// A map that finds the value of the longest prefix of an address, where there is one.
pub(super) struct PrefixMap(OwnedFd);

impl PrefixMap {
    pub(super) fn new(most_entries: u32) -> io::Result<Self> {
        let mut wish = MapWish {
            kind: BPF_MAP_TYPE_LPM_TRIE,
            key_octets: size_of::<PrefixKey>() as u32,
            value_octets: size_of::<u32>() as u32,
            most_entries,
            flags: BPF_F_NO_PREALLOC,
        };
        // SAFETY: BPF_MAP_CREATE reads the fields that are there and takes the others for 0; none of them is an address.
        let map = unsafe { call(BPF_MAP_CREATE, &mut wish)? };
        // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(map as RawFd) }))
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Enters a value, or another one for the same prefix.
    pub(super) fn set(&self, key: &PrefixKey, value: u32) -> io::Result<()> {
        self.element(BPF_MAP_UPDATE_ELEM, key, Some(&value), BPF_ANY)
    }

    /// Enters a value unless there is one for this very prefix.
    pub(super) fn set_first(&self, key: &PrefixKey, value: u32) -> io::Result<()> {
        self.element(BPF_MAP_UPDATE_ELEM, key, Some(&value), BPF_NOEXIST)
    }

    /// Takes out what was entered for this very prefix.
    pub(super) fn remove(&self, key: &PrefixKey) -> io::Result<()> {
        self.element(BPF_MAP_DELETE_ELEM, key, None, BPF_ANY)
    }

    fn element(
        &self,
        command: libc::c_int,
        key: &PrefixKey,
        value: Option<&u32>,
        flags: u64,
    ) -> io::Result<()> {
        let value = value.map_or(0, |value| &raw const *value as u64);
        let key = &raw const *key as u64;
        let mut wish = Element { map: self.fd() as u32, unused: 0, key, value, flags };
        // SAFETY: the kernel reads a key, and for an update a value, of the lengths that every map of ours is made for; they have
        // those lengths, and outlive the call.
        unsafe { call(command, &mut wish) }.map(drop)
    }
}

/// A prefix that a map has a value for.
#[repr(C)]
pub(super) struct PrefixKey {
    pub(super) length: u32,
    pub(super) address: [u8; 16],
}

/// Has the kernel verify a program that is given packets.
pub(super) fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut wish = ProgramWish {
        kind: BPF_PROG_TYPE_SOCKET_FILTER,
        instructions: u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        program: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
    };
    // SAFETY: the kernel reads so many instructions and a text that ends with 0; both outlive the call. It takes no program that
    // it cannot prove to be harmless.
    let program = unsafe { call(BPF_PROG_LOAD, &mut wish)? };
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(program as RawFd) })
}

/// # Safety
/// `wish` is what the command reads, and what it points to is there until this returns.
unsafe fn call<T>(command: libc::c_int, wish: &mut T) -> io::Result<libc::c_long> {
    let octets = size_of::<T>() as libc::c_uint;
    // SAFETY: by the contract of this function; the kernel touches no more than so many octets of `wish`.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(wish), octets) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The beginnings of `union bpf_attr`, by command.
#[repr(C)]
struct MapWish {
    kind: u32,
    key_octets: u32,
    value_octets: u32,
    most_entries: u32,
    flags: u32,
}

#[repr(C)]
struct Element {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramWish {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
}

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_MAP_TYPE_LPM_TRIE: u32 = 11;
const BPF_ANY: u64 = 0;
const BPF_NOEXIST: u64 = 1;
const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;

/// What a program returns for a packet, for tests.
#[cfg(test)]
pub(super) fn try_out(program: &OwnedFd, packet: &[u8]) -> io::Result<u32> {
    #[repr(C)]
    struct Trial {
        program: u32,
        result: u32,
        octets: u32,
        octets_out: u32,
        packet: u64,
        packet_out: u64,
        repeat: u32,
        duration: u32,
    }
    const BPF_PROG_TEST_RUN: libc::c_int = 10;
    // It is given what comes after an Ethernet header. The number is one for experiments, or the kernel wants whole headers.
    let mut frame = vec![0; 12];
    frame.extend([0x88, 0xb5]);
    frame.extend(packet);
    let mut trial = Trial {
        program: program.as_raw_fd() as u32,
        result: 0,
        octets: frame.len() as u32,
        octets_out: 0,
        packet: frame.as_ptr() as u64,
        packet_out: 0,
        repeat: 1,
        duration: 0,
    };
    // SAFETY: the kernel reads so many octets of the frame, which outlives the call, and writes into `trial` alone.
    unsafe { call(BPF_PROG_TEST_RUN, &mut trial)? };
    Ok(trial.result)
}
