//! The instructions of eBPF that a program of ours is made of.

use std::os::fd::RawFd;

/// One instruction of eBPF, as the kernel reads it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    /// Destination and source, half an octet each.
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    fn new(code: u32, (to, from): (u8, u8), offset: i16, immediate: i32) -> Self {
        let registers = if cfg!(target_endian = "big") { to << 4 | from } else { from << 4 | to };
        Self { code: code as u8, registers, offset, immediate }
    }
}

/// Registers.
pub(super) const RESULT: u8 = 0;
pub(super) const ARGUMENT_1: u8 = 1;
pub(super) const ARGUMENT_2: u8 = 2;
pub(super) const ARGUMENT_3: u8 = 3;
pub(super) const ARGUMENT_4: u8 = 4;
pub(super) const PACKET: u8 = 6;
pub(super) const STACK: u8 = 10;

/// Functions of the kernel.
pub(super) const MAP_LOOKUP_ELEM: i32 = 1;
pub(super) const SKB_LOAD_BYTES: i32 = 26;

/// What eBPF has and the older one, which `libc` knows, has not.
const ALU64: u32 = 7;
pub(super) const JNE: u32 = 0x50;
const CALL: u32 = 0x80;
const EXIT: u32 = 0x90;
const MOV: u32 = 0xb0;
const DOUBLE: u32 = 0x18;
const THIS_IS_A_MAP: u8 = 1;

pub(super) fn copy(to: u8, from: u8) -> Instruction {
    Instruction::new(ALU64 | MOV | libc::BPF_X, (to, from), 0, 0)
}

pub(super) fn set_to(to: u8, value: i32) -> Instruction {
    Instruction::new(ALU64 | MOV | libc::BPF_K, (to, 0), 0, value)
}

pub(super) fn add(to: u8, value: i16) -> Instruction {
    Instruction::new(ALU64 | libc::BPF_ADD | libc::BPF_K, (to, 0), 0, value.into())
}

/// Of the lower half of the register, as the two below.
pub(super) fn shift_right(to: u8, bits: i32) -> Instruction {
    Instruction::new(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, (to, 0), 0, bits)
}

pub(super) fn xor(to: u8, with: u8) -> Instruction {
    Instruction::new(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, (to, with), 0, 0)
}

pub(super) fn multiply(to: u8, by: i32) -> Instruction {
    Instruction::new(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, (to, 0), 0, by)
}

/// Into [`RESULT`].
pub(super) fn load_octet(at: i32) -> Instruction {
    Instruction::new(libc::BPF_LD | libc::BPF_ABS | libc::BPF_B, (0, 0), 0, at)
}

pub(super) fn load(to: u8, from: u8, offset: i16) -> Instruction {
    Instruction::new(libc::BPF_LDX | libc::BPF_MEM | libc::BPF_W, (to, from), offset, 0)
}

pub(super) fn store(offset: i16, value: i32) -> Instruction {
    Instruction::new(libc::BPF_ST | libc::BPF_MEM | libc::BPF_W, (STACK, 0), offset, value)
}

/// Over so many instructions.
pub(super) fn jump(condition: u32, register: u8, value: i32, over: i16) -> Instruction {
    Instruction::new(libc::BPF_JMP | condition | libc::BPF_K, (register, 0), over, value)
}

/// A map by its file descriptor, which takes two.
pub(super) fn address_of_map(to: u8, map: RawFd) -> [Instruction; 2] {
    [Instruction::new(DOUBLE, (to, THIS_IS_A_MAP), 0, map), Instruction::new(0, (0, 0), 0, 0)]
}

pub(super) fn call(function: i32) -> Instruction {
    Instruction::new(libc::BPF_JMP | CALL, (0, 0), 0, function)
}

pub(super) fn exit() -> Instruction {
    Instruction::new(libc::BPF_JMP | EXIT, (0, 0), 0, 0)
}
