//! A table of instructions and what each is to the simulator.

use super::*;
use tierscope_sim::Class::*;

/// Bytes, assembly, registers of data, of addresses, written ones, class, loads and stores.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, Class, (u8, u8));

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("48 89 d8", "mov rax, rbx", "rbx", "", "rax", Eliminated, (0, 0)),
    ("89 d8", "mov eax, ebx", "rbx", "", "rax", Eliminated, (0, 0)),
    ("66 89 d8", "mov ax, bx", "rax rbx", "", "rax", Integer, (0, 0)),
    ("88 d8", "mov al, bl", "rax rbx", "", "rax", Integer, (0, 0)),
    ("b8 07 00 00 00", "mov eax, 7", "", "", "rax", Integer, (0, 0)),
    ("48 8b 04 cb", "mov rax, [rbx+rcx*8]", "", "rbx rcx", "rax", Move, (1, 0)),
    ("48 8b 00", "mov rax, [rax]", "", "rax", "rax", Move, (1, 0)),
    ("48 89 03", "mov [rbx], rax", "rax", "rbx", "", Move, (0, 1)),
    ("48 89 1b", "mov [rbx], rbx", "rbx", "rbx", "", Move, (0, 1)),
    ("8a 03", "mov al, [rbx]", "rax", "rbx", "rax", Move, (1, 0)),
    ("0f b6 03", "movzx eax, byte ptr [rbx]", "", "rbx", "rax", Move, (1, 0)),
    ("0f b6 c3", "movzx eax, bl", "rbx", "", "rax", Integer, (0, 0)),
    ("48 8d 44 8b 08", "lea rax, [rbx+rcx*4+8]", "rbx rcx", "", "rax", Integer, (0, 0)),
    ("31 c0", "xor eax, eax", "", "", "rax flags", Eliminated, (0, 0)),
    ("31 d8", "xor eax, ebx", "rax rbx", "", "rax flags", Integer, (0, 0)),
    ("48 29 c9", "sub rcx, rcx", "", "", "rcx flags", Eliminated, (0, 0)),
    ("30 c0", "xor al, al", "rax", "", "rax flags", Integer, (0, 0)),
    ("48 01 d8", "add rax, rbx", "rax rbx", "", "rax flags", Integer, (0, 0)),
    ("48 03 03", "add rax, [rbx]", "rax", "rbx", "rax flags", Integer, (1, 0)),
    ("48 03 00", "add rax, [rax]", "rax", "rax", "rax flags", Integer, (1, 0)),
    ("48 01 03", "add [rbx], rax", "rax", "rbx", "flags", Integer, (1, 1)),
    ("48 11 d8", "adc rax, rbx", "rax rbx flags", "", "rax flags", Integer, (0, 0)),
    ("ff 44 24 08", "inc dword ptr [rsp+8]", "", "rsp", "flags", Integer, (1, 1)),
    ("48 3b 03", "cmp rax, [rbx]", "rax", "rbx", "flags", Integer, (1, 0)),
    ("0f 94 c0", "setz al", "rax flags", "", "rax", Integer, (0, 0)),
    ("48 0f 44 c3", "cmovz rax, rbx", "rax rbx flags", "", "rax", Integer, (0, 0)),
    ("48 0f 44 03", "cmovz rax, [rbx]", "rax flags", "rbx", "rax", Integer, (1, 0)),
    ("48 0f af c3", "imul rax, rbx", "rax rbx", "", "rax flags", Multiply, (0, 0)),
    ("48 f7 e3", "mul rbx", "rax rbx", "", "rax rdx flags", Multiply, (0, 0)),
    ("48 f7 f3", "div rbx", "rax rdx rbx", "", "rax rdx flags", DivideLong, (0, 0)),
    ("f7 f3", "div ebx", "rax rdx rbx", "", "rax rdx flags", Divide, (0, 0)),
    ("50", "push rax", "rax", "rsp", "", Move, (0, 1)),
    ("58", "pop rax", "", "rsp", "rax", Move, (1, 0)),
    ("ff 33", "push qword ptr [rbx]", "", "rbx rsp", "", Move, (1, 1)),
    ("ff d0", "call rax", "rax", "rsp", "", CallIndirect, (0, 1)),
    ("ff 13", "call [rbx]", "", "rbx rsp", "", CallIndirect, (1, 1)),
    ("c3", "ret", "", "rsp", "", Return, (1, 0)),
    ("c9", "leave", "", "rbp", "rbp", Move, (1, 0)),
    ("ff e0", "jmp rax", "rax", "", "", BranchIndirect, (0, 0)),
    ("74 00", "jz .+2", "flags", "", "", BranchConditional, (0, 0)),
    ("eb 00", "jmp .+2", "", "", "", BranchDirect, (0, 0)),
    ("e8 00 00 00 00", "call .+5", "", "rsp", "", CallDirect, (0, 1)),
    ("f3 a4", "rep movsb", "rcx rsi rdi", "rsi rdi", "rcx rsi rdi", Repeat, (1, 1)),
    ("f3 48 ab", "rep stosq", "rax rcx rdi", "rdi", "rcx rdi", Repeat, (0, 1)),
    ("a4", "movsb", "rsi rdi", "rsi rdi", "rsi rdi", Move, (1, 1)),
    ("f0 48 0f c1 03", "lock xadd [rbx], rax", "rax", "rbx", "rax flags", Atomic, (1, 1)),
    ("f0 48 0f b1 0b", "lock cmpxchg [rbx], rcx", "rax rcx", "rbx", "rax flags", Atomic, (1, 1)),
    ("48 87 03", "xchg [rbx], rax", "rax", "rbx", "rax", Atomic, (1, 1)),
    ("0f ae f0", "mfence", "", "", "", Fence, (0, 0)),
    ("0f a2", "cpuid", "rax rcx", "", "rax rbx rcx rdx", Serialising, (0, 0)),
    ("0f 1f 00", "nop dword ptr [rax]", "", "", "", Nop, (0, 0)),
    ("0f 18 08", "prefetcht0 [rax]", "", "", "", Nop, (0, 0)),
    ("66 0f ef c9", "pxor xmm1, xmm1", "", "", "xmm1", Eliminated, (0, 0)),
    ("c5 e9 ef ca", "vpxor xmm1, xmm2, xmm2", "", "", "xmm1", Eliminated, (0, 0)),
    ("66 0f 76 db", "pcmpeqd xmm3, xmm3", "", "", "xmm3", Vector, (0, 0)),
    ("0f 28 c1", "movaps xmm0, xmm1", "xmm1", "", "xmm0", Eliminated, (0, 0)),
    ("f3 0f 10 c1", "movss xmm0, xmm1", "xmm0 xmm1", "", "xmm0", Shuffle, (0, 0)),
    ("f2 0f 10 00", "movsd xmm0, [rax]", "", "rax", "xmm0", Move, (1, 0)),
    ("66 0f 16 00", "movhpd xmm0, [rax]", "xmm0", "rax", "xmm0", Shuffle, (1, 0)),
    ("0f 11 00", "movups [rax], xmm0", "xmm0", "rax", "", Move, (0, 1)),
    ("0f 2b 00", "movntps [rax], xmm0", "xmm0", "rax", "", Move, (0, 1)),
    ("66 0f 58 c1", "addpd xmm0, xmm1", "xmm0 xmm1", "", "xmm0", FloatAdd, (0, 0)),
    ("c5 f5 59 04 10", "vmulpd ymm0, ymm1, [rax+rdx]", "xmm1", "rax rdx", "xmm0", FloatMultiply, (1, 0)),
    ("f2 0f 5e c1", "divsd xmm0, xmm1", "xmm0 xmm1", "", "xmm0", FloatDivide, (0, 0)),
    ("f2 0f 51 c1", "sqrtsd xmm0, xmm1", "xmm0 xmm1", "", "xmm0", FloatSqrt, (0, 0)),
    ("c4 e2 f1 b9 c2", "vfmadd231sd xmm0, xmm1, xmm2", "xmm0 xmm1 xmm2", "", "xmm0", FloatFused, (0, 0)),
    ("f2 0f 2a c0", "cvtsi2sd xmm0, eax", "xmm0 rax", "", "xmm0", Convert, (0, 0)),
    ("66 0f 2e c1", "ucomisd xmm0, xmm1", "xmm0 xmm1", "", "flags", FloatAdd, (0, 0)),
    ("66 0f fe c1", "paddd xmm0, xmm1", "xmm0 xmm1", "", "xmm0", Vector, (0, 0)),
    ("66 0f 38 40 c1", "pmulld xmm0, xmm1", "xmm0 xmm1", "", "xmm0", VectorMultiply, (0, 0)),
    ("66 0f 70 c1 03", "pshufd xmm0, xmm1, 3", "xmm1", "", "xmm0", Shuffle, (0, 0)),
    ("66 48 0f 6e c0", "movq xmm0, rax", "rax", "", "xmm0", Transfer, (0, 0)),
    ("66 0f 7e c0", "movd eax, xmm0", "xmm0", "", "rax", Transfer, (0, 0)),
    ("66 0f d7 c0", "pmovmskb eax, xmm0", "xmm0", "", "rax", Transfer, (0, 0)),
    ("c4 e2 7d 58 00", "vpbroadcastd ymm0, [rax]", "", "rax", "xmm0", Move, (1, 0)),
    ("c4 e2 6d 90 04 88", "vpgatherdd ymm0, [rax+ymm1*4], ymm2", "xmm0 xmm2", "rax xmm1", "xmm0 xmm2", Move, (8, 0)),
    ("66 0f 38 dc c1", "aesenc xmm0, xmm1", "xmm0 xmm1", "", "xmm0", Cryptographic, (0, 0)),
    ("dd 00", "fld qword ptr [rax]", "x87", "rax", "x87", X87, (1, 0)),
    ("db 38", "fstp tbyte ptr [rax]", "x87", "rax", "x87", X87, (0, 1)),
    ("d8 c1", "fadd st, st(1)", "x87", "", "x87", X87, (0, 0)),];

fn code(hex: &str) -> Vec<u8> {
    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn names(set: Registers) -> String {
    let general = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(' ').map(String::from);
    let names: Vec<String> = general
        .chain((0..32).map(|number| format!("xmm{number}")))
        .chain((0..8).map(|number| format!("k{number}")))
        .chain(["flags", "x87", "other"].map(String::from))
        .collect();
    let mut found: Vec<&str> = set.numbers().map(|number| names[number].as_str()).collect();
    found.sort_unstable();
    found.join(" ")
}

fn sorted(list: &str) -> String {
    let mut list: Vec<&str> = list.split(' ').collect();
    list.sort_unstable();
    list.join(" ")
}

#[test]
fn instructions_are_what_they_do() {
    for (hex, assembly, sources, addresses, destinations, class, (loads, stores)) in TABLE {
        let decoded = decode(0x1000, &code(hex));
        assert_eq!(decoded.block.ops.len(), 1, "{assembly}");
        let op = decoded.block.ops[0];
        let shown = |op: Op| (names(op.sources), names(op.address_sources), names(op.destinations));
        assert_eq!(shown(op), (sorted(sources), sorted(addresses), sorted(destinations)), "{assembly}");
        assert_eq!((op.class, op.loads, op.stores), (*class, *loads, *stores), "{assembly}");
        assert_eq!(op.non_temporal, assembly.starts_with("movnt"), "{assembly}");
        let conditional = matches!(class, Repeat) || assembly.contains("gather");
        assert_eq!(decoded.last_certain == 1, loads + stores > 0 && !conditional, "{assembly}");
    }
}

#[test]
fn a_block_knows_where_its_instructions_lie_and_what_moves_in_pieces() {
    // mov rax, [rbx]; movups xmm0, [rax]; add rcx, rdx; fstp tbyte ptr [rdi]; ret
    let decoded = decode(0x40_1000, &code("48 8b 03 0f 10 00 48 01 d1 db 3f c3"));
    let offsets: Vec<u16> = decoded.block.ops.iter().map(|op| op.offset).collect();
    assert_eq!(offsets, [0, 3, 6, 9, 11]);
    assert_eq!((decoded.block.address, decoded.block.bytes, decoded.last_certain), (0x40_1000, 12, 5));
    let bytes: Vec<(u8, u8)> =
        decoded.asked.iter().map(|asked| (asked.tags[0].bytes(), asked.tags[1].bytes())).collect();
    assert_eq!((bytes[0].0, bytes[1].0, bytes[3].1, bytes[4].0), (8, 16, 10, 8));
    assert!(decoded.asked[1].tags[0].is_in_pieces() && !decoded.asked[0].tags[0].is_in_pieces());
}

#[test]
fn a_jump_is_one_with_the_comparison_before_it_where_cores_decode_them_so() {
    let fused = |hex: &str| decode(0x1000, &code(hex)).block.ops.last().unwrap().fused;
    for (hex, one) in [
        ("48 39 d8 74 00", true),           // cmp rax, rbx; jz
        ("48 3b 03 72 00", true),           // cmp rax, [rbx]; jb
        ("48 85 c0 78 00", true),           // test rax, rax; js
        ("48 ff c8 75 00", true),           // dec rax; jnz
        ("48 39 d8 78 00", false),          // cmp rax, rbx; js
        ("48 ff c8 72 00", false),          // dec rax; jb
        ("48 83 3b 07 74 00", false),       // cmp qword ptr [rbx], 7; jz
        ("48 01 03 74 00", false),          // add [rbx], rax; jz
        ("48 d1 e8 74 00", false),          // shr rax, 1; jz
        ("48 39 d8 48 89 c1 74 00", false), // cmp rax, rbx; mov rcx, rax; jz
        ("48 39 d8 eb 00", false),          // cmp rax, rbx; jmp
    ] {
        assert_eq!(fused(hex), one, "{hex}");
    }
}

#[test]
fn any_bytes_decode_or_end_the_block() {
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let bytes: [u8; 16] = std::array::from_fn(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        let decoded = decode(0x1000, &bytes);
        assert!(decoded.block.ops.len() <= 16 && decoded.asked.len() == decoded.block.ops.len());
    }
}

#[test]
fn a_block_is_steady_if_each_of_its_operands_is_surely_accessed_at_once() {
    let steady = |hex: &str| decode(0x1000, &code(hex)).is_steady;
    // Nothing; mov rax, [rbx]; add [rax], ecx; push rax; ret.
    assert!(["90", "48 8b 03", "01 08", "50", "c3", "48 8b 03 01 08 c3"].into_iter().all(steady));
    // movups xmm0, [rax]; fstp tbyte ptr [rdi]; fxsave [rax]; rep movsb; vpgatherdd ymm0, [rax+ymm1*4], ymm2.
    for hex in ["0f 10 00", "db 3f", "0f ae 00", "f3 a4", "c4 e2 6d 90 04 88"] {
        assert!(!steady(hex) && !steady(&format!("{hex} c3")) && !steady(&format!("48 8b 03 {hex}")), "{hex}");
    }
}

/// How the accesses of a block are written: `L` leading, `E` if it also enters the block, `f` following, `.` each by itself.
fn written(hex: &str) -> String {
    let letter = |asked: &Asked| match &asked.written {
        Written::Each => '.',
        Written::Leading { enters: false, .. } => 'L',
        Written::Leading { enters: true, .. } => 'E',
        Written::Following => 'f',
    };
    decode(0x1000, &code(hex)).asked.iter().map(letter).collect()
}

#[test]
fn an_access_follows_where_its_address_differs_by_a_constant() {
    for (hex, expected, assembly) in [
        ("48 8b 03 48 8b 43 08", "Ef", "mov rax, [rbx]; mov rax, [rbx+8]"),
        ("48 8b 03 48 8b 00", "EL", "mov rax, [rbx]; mov rax, [rax]"),
        ("48 8b 1b 48 8b 1b", "EL", "mov rbx, [rbx] twice"),
        ("48 8b 03 48 83 c3 08 48 8b 03", "E.f", "mov rax, [rbx]; add rbx, 8; mov rax, [rbx]"),
        ("48 8b 03 83 c3 08 48 8b 03", "E.L", "mov rax, [rbx]; add ebx, 8; mov rax, [rbx]"),
        ("48 8b 03 48 8d 5b 08 48 8b 03", "E.f", "mov rax, [rbx]; lea rbx, [rbx+8]; mov rax, [rbx]"),
        ("48 8b 03 48 8d 1c 0b 48 8b 03", "E.L", "mov rax, [rbx]; lea rbx, [rbx+rcx]; mov rax, [rbx]"),
        ("48 8b 04 cb 48 ff c1 48 89 04 cb", "E.f", "mov rax, [rbx+rcx*8]; inc rcx; mov [rbx+rcx*8], rax"),
        ("48 8b 04 cb 48 8b 04 4b", "EL", "mov rax, [rbx+rcx*8]; mov rax, [rbx+rcx*2]"),
        ("48 8b 03 48 8b 83 00 0f 00 00", "Ef", "mov rax, [rbx]; mov rax, [rbx+0xf00]"),
        ("48 8b 03 48 8b 83 00 10 00 00", "EL", "mov rax, [rbx]; mov rax, [rbx+0x1000]"),
        ("64 48 8b 03 48 8b 03", "EL", "mov rax, fs:[rbx]; mov rax, [rbx]"),
        ("48 8b 03 67 48 8b 03", "E.", "mov rax, [rbx]; mov rax, [ebx]"),
        ("50 53 58 c3", "Efff", "push rax; push rbx; pop rax; ret"),
        ("50 5c 58", "EfL", "push rax; pop rsp; pop rax"),
        ("50 48 83 e4 f0 50", "E.L", "push rax; and rsp, -16; push rax"),
        ("48 8b 05 00 01 00 00 48 8b 05 00 01 00 00", "Ef", "mov rax, [rip+0x100] twice"),
        ("01 03 8b 03", "Ef", "add [rbx], eax; mov eax, [rbx]"),
        ("0f 10 03 0f 11 43 10", "Lf", "movups xmm0, [rbx]; movups [rbx+16], xmm0"),
        ("48 8b 03 f0 ff 03 8b 03", "E.L", "mov rax, [rbx]; lock inc dword ptr [rbx]; mov eax, [rbx]"),
        ("48 0f ab 03 48 8b 03", ".L", "bts [rbx], rax; mov rax, [rbx]"),
        ("ff 33 48 8b 03", ".L", "push qword ptr [rbx]; mov rax, [rbx]"),
        ("a5 8b 06", ".L", "movsd; mov eax, [rsi]"),
        ("d7 8b 03", ".L", "xlatb; mov eax, [rbx]"),
        ("0f b1 0b 8b 03", ".L", "cmpxchg [rbx], ecx; mov eax, [rbx]"),
        ("db 3b 8b 03", ".L", "fstp tbyte ptr [rbx]; mov eax, [rbx]"),
    ] {
        assert_eq!(written(hex), expected, "{assembly}");
    }
}

#[test]
fn what_follows_is_the_word_it_would_have_been() {
    // add [rbx+rcx*8+8], eax; push rax; add rcx, 3; mov [rbx+rcx*8-8], al; pop dx
    let decoded = decode(0x1000, &code("01 44 cb 08 50 48 83 c1 03 88 44 cb f8 66 5a"));
    let (rbx, rcx, rsp) = (0x7fff_1234_5678_u64, 0x11, 0x7ffd_0000_0ff8_u64);
    let word = |op: usize, store: usize, address: u64| decoded.asked[op].tags[store].to_word() | address;
    let mut words = Vec::new();
    for (op, address) in [(0, rbx + rcx * 8 + 8), (1, rsp - 8)] {
        let Written::Leading { followers, .. } = &decoded.asked[op].written else { panic!("{op} leads") };
        words.push(word(op, op, address));
        for follower in followers {
            words.push(words[words.len() - follower.back as usize].wrapping_add(follower.add));
        }
    }
    let expected = [
        word(0, 0, rbx + rcx * 8 + 8),
        word(0, 1, rbx + rcx * 8 + 8),
        word(1, 1, rsp - 8),
        word(3, 1, rbx + (rcx + 3) * 8 - 8),
        word(4, 0, rsp - 8),
    ];
    assert_eq!(words, expected);
}
