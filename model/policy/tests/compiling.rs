//! What a policy becomes for a program as it is now: the same build, another build, another machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;

use tierscope_policy::{Compiled, How, ModuleFile, Policy, Resolve, compile};
use tierscope_wire::policy::{Backend, FrameSpec, Table};

/// A program made up for a test.
#[derive(Default)]
struct Made {
    /// Build-ids by file name.
    modules: BTreeMap<&'static str, Vec<u8>>,
    /// Calls: module, function, file, line, return address.
    calls: Vec<(&'static str, &'static str, &'static str, u32, u64)>,
    /// Module, symbol, address, bytes.
    globals: Vec<(&'static str, &'static str, u64, u64)>,
}

impl Resolve for Made {
    fn module(&self, name: &str) -> Option<ModuleFile> {
        let build_id = self.modules.get(name)?.clone();
        let real_name = (name == "libm.so").then(|| "libm.so.6".to_owned());
        Some(ModuleFile { build_id, is_program: name == "bc", real_name })
    }

    fn return_addresses(&self, module: &str, function: &str, place: Option<(&str, u32)>) -> Vec<(u64, u64)> {
        let fits = |call: &&(&str, &str, &str, u32, u64)| {
            call.0 == module && call.1 == function && place.is_none_or(|place| place == (call.2, call.3))
        };
        self.calls.iter().filter(fits).map(|call| (call.4, call.4 + 1)).collect()
    }

    fn globals(&self, module: &str, symbol: &str) -> Vec<(u64, u64)> {
        let fits = |global: &&(&str, &str, u64, u64)| global.0 == module && global.1 == symbol;
        self.globals.iter().filter(fits).map(|global| (global.2, global.3)).collect()
    }

    fn program(&self) -> Option<String> {
        Some("bc".into())
    }
}

fn same_build() -> Made {
    Made { modules: BTreeMap::from([("bc", vec![0xaa]), ("libm.so.6", vec![0xbb])]), ..Made::default() }
}

fn rebuilt() -> Made {
    Made {
        modules: BTreeMap::from([("bc", vec![0xcc]), ("libm.so.6", vec![0xbb])]),
        calls: vec![
            ("bc", "BrandesBC", "bc.cc", 88, 0x100),
            ("bc", "BrandesBC", "bc.cc", 88, 0x180),
            ("bc", "BrandesBC", "bc.cc", 90, 0x200),
            ("bc", "main", "bc.cc", 120, 0x300),
        ],
        globals: vec![("bc", "u0", 0x5000, 800)],
    }
}

fn policy(matching: &str, rules: &str) -> Policy {
    let text = format!(
        "schema = \"tierscope.policy/1\"\n[program]\nname = \"bc\"\nmatch = \"{matching}\"\n\
         [program.modules]\nbc = \"aa\"\n\"libm.so.6\" = \"bb\"\n\"plugin.so\" = \"dd\"\n\
         [tiers.fast]\nbackend = \"numa\"\nnodes = [0]\ncapacity = \"1 GiB\"\n\
         [tiers.slow]\nbackend = \"interleave\"\nnodes = [1, 2]\nweights = [3, 1]\n\
         [default]\ntier = \"slow\"\n{rules}"
    );
    Policy::parse(&text).unwrap_or_else(|errors| panic!("{errors}"))
}

const SITE: &str = "[[rule]]\ntier = \"fast\"\nsite = [\"bc+0x10\", \"bc+0x20\"]\n\
                    frames = [\"BrandesBC bc.cc:88\", \"main bc.cc:120\"]\n";

/// Compiles, and holds the result to what the shim reads.
fn compiled(policy: &Policy, program: &Made) -> Compiled {
    let compiled = compile(policy, program);
    let bytes = compiled.spec.encode().unwrap();
    let table = Table::parse(&bytes).unwrap();
    assert_eq!(table.counts().rules, compiled.spec.rules.len());
    let done = compiled.resolved.len() + compiled.unresolved.len();
    assert_eq!(done, policy.rules.len(), "every rule is carried out or told");
    compiled
}

fn ranges(frame: &FrameSpec) -> &[(u64, u64)] {
    &frame.ranges
}

#[test]
fn in_the_same_build_addresses_stand() {
    for matching in ["exact", "line", "function"] {
        let compiled = compiled(&policy(matching, SITE), &same_build());
        assert_eq!(compiled.resolved, [(1, How::Exact)]);
        let rule = &compiled.spec.rules[0];
        assert_eq!(rule.frames.iter().map(ranges).collect::<Vec<_>>(), [[(0x10, 0x11)], [(0x20, 0x21)]]);
        assert_eq!((rule.min_bytes, rule.max_bytes, rule.number), (0, u64::MAX, 1));
        assert!(compiled.rebuilt.is_empty() && compiled.spec.follow);
    }
}

#[test]
fn tiers_and_the_default_are_those_of_the_file() {
    let spec = compiled(&policy("line", ""), &same_build()).spec;
    let tiers: Vec<_> = spec.tiers.iter().map(|tier| (tier.backend, tier.nodes.as_slice(), tier.capacity)).collect();
    let (fast, slow): (&[u16], &[u16]) = (&[0], &[1, 2]);
    assert_eq!(tiers, [(Backend::Numa, fast, Some(1 << 30)), (Backend::WeightedInterleave, slow, None)]);
    assert_eq!((spec.default_tier, spec.tiers[1].weights.as_slice()), (Some(1), [3, 1].as_slice()));
    let text = "schema = \"tierscope.policy/1\"\ndefault.tier = \"a\"\n[tiers]\na = { backend = \"default\" }\n";
    assert_eq!(compile(&Policy::parse(text).unwrap(), &same_build()).spec.default_tier, None);
}

#[test]
fn a_rebuilt_site_is_found_by_line_or_by_function_or_not_at_all() {
    let by_line = compiled(&policy("line", SITE), &rebuilt());
    assert_eq!(
        (by_line.resolved.as_slice(), by_line.rebuilt.as_slice()),
        (&[(1, How::Line)][..], &["bc".to_owned()][..])
    );
    assert_eq!(ranges(&by_line.spec.rules[0].frames[0]), [(0x100, 0x101), (0x180, 0x181)]);
    assert_eq!(by_line.spec.modules[0].build_id, [0xcc], "the shim checks the build it was compiled for");

    let by_function = compiled(&policy("function", SITE), &rebuilt());
    assert_eq!(by_function.resolved, [(1, How::Function)]);
    assert_eq!(ranges(&by_function.spec.rules[0].frames[0]).len(), 3);

    let exact = compiled(&policy("exact", SITE), &rebuilt());
    assert!(exact.spec.rules.is_empty());
    insta::assert_snapshot!(exact.unresolved[0].why, @r#"`bc` was rebuilt, and `match` is "exact""#);
}

#[test]
fn what_a_rebuild_lost_is_told_with_the_way_out() {
    let rules = "[[rule]]\ntier = \"fast\"\nsite = [\"bc+0x10\"]\nframes = [\"BrandesBC\"]\n\
                 [[rule]]\ntier = \"fast\"\nsite = [\"bc+0x11\"]\n\
                 [[rule]]\ntier = \"fast\"\nsite = [\"bc+0x12\"]\nframes = [\"BrandesBC bc.cc:7\"]\n\
                 [[rule]]\ntier = \"fast\"\nsite = [\"nowhere.so+0x12\"]\n\
                 [[rule]]\ntier = \"fast\"\nsymbol = \"u1\"\n";
    let whys = |matching| {
        let compiled = compiled(&policy(matching, rules), &rebuilt());
        compiled.unresolved.iter().map(|left| format!("{}: {}", left.rule, left.why)).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(format!("{}\n\n{}", whys("line"), whys("function")));
}

#[test]
fn a_frame_in_a_module_that_was_not_rebuilt_stands_beside_one_that_was() {
    let site =
        "[[rule]]\ntier = \"fast\"\nsite = [\"libm.so.6+0x10\", \"bc+0x20\"]\nframes = [\"\", \"main bc.cc:120\"]\n";
    let compiled = compiled(&policy("line", site), &rebuilt());
    assert_eq!(compiled.resolved, [(1, How::Line)]);
    let frames = &compiled.spec.rules[0].frames;
    assert_eq!((ranges(&frames[0]), ranges(&frames[1])), (&[(0x10, 0x11)][..], &[(0x300, 0x301)][..]));
}

#[test]
fn a_module_that_is_not_there_yet_is_checked_when_it_is_loaded() {
    let site = "[[rule]]\ntier = \"fast\"\nsite = [\"plugin.so+0x10\"]\nsize = \"64 KiB..128 KiB\"\nordinal = 2\n";
    let compiled = compiled(&policy("line", site), &same_build());
    assert_eq!(compiled.resolved, [(1, How::Later)]);
    assert_eq!(compiled.spec.modules[0].build_id, [0xdd]);
    let rule = &compiled.spec.rules[0];
    assert_eq!((rule.min_bytes, rule.max_bytes, rule.ordinal), (64 << 10, (128 << 10) - 1, Some(2)));
}

#[test]
fn the_main_program_goes_by_its_build_id_and_not_by_its_name() {
    let compiled_same = compiled(&policy("line", SITE), &same_build());
    assert_eq!(compiled_same.spec.modules[0].name, "");
    let mut stripped = same_build();
    stripped.modules.insert("bc", Vec::new());
    let mut unknown = policy("line", SITE);
    unknown.program.modules.clear();
    let compiled = compiled(&unknown, &stripped);
    assert_eq!(compiled.spec.modules[0].name, "bc");
    assert_eq!(compiled.resolved, [(1, How::Unchecked)]);
}

/// Every stack ends in code that nobody has debug information of.
#[test]
fn outer_frames_without_a_line_do_not_cost_a_rule() {
    let mut program = rebuilt();
    program.modules.insert("libm.so.6", vec![0xcc]);
    program.calls.push(("bc", "_start", "", 0, 0x400));
    let site = |outer: &str| {
        format!(
            "[[rule]]\ntier = \"fast\"\nsite = [\"bc+0x10\", \"libm.so.6+0x7\", \"bc+0x12\"]\n\
             frames = [\"BrandesBC bc.cc:90\", \"\", \"{outer}\"]\n"
        )
    };
    let compiled = compiled(&policy("line", &site("_start")), &program);
    assert_eq!(compiled.resolved, [(1, How::Line)]);
    let frames = &compiled.spec.rules[0].frames;
    assert_eq!(ranges(&frames[0]), [(0x200, 0x201)]);
    assert_eq!(ranges(&frames[1]), [(0, u64::MAX)], "anywhere in the module");
    assert_eq!(ranges(&frames[2]), [(0x400, 0x401)]);
    // Of a library, its debug information may be what is gone.
    let with_line = site("_start").replace("\"\", ", "\"sqrt s_sqrt.c:7\", ");
    assert_ne!(with_line, site("_start"));
    let compiled = self::compiled(&policy("line", &with_line), &program);
    assert_eq!(ranges(&compiled.spec.rules[0].frames[1]), [(0, u64::MAX)]);
    // An outer frame that had a line and lost it is another site; and exactly is exactly.
    assert!(self::compiled(&policy("line", &site("main bc.cc:1")), &program).resolved.is_empty());
    assert!(self::compiled(&policy("exact", &site("_start")), &program).resolved.is_empty());
}

/// C++ allocates through a library of which nobody has lines.
#[test]
fn an_inner_frame_without_a_line_is_found_by_its_function_if_the_caller_is_certain() {
    let mut program = rebuilt();
    program.modules.insert("libm.so.6", vec![0xcc]);
    program.calls.push(("libm.so.6", "operator new", "", 0, 0x40));
    let site = |caller: &str, inner: &str| {
        format!(
            "[[rule]]\ntier = \"fast\"\nsite = [\"libm.so.6+0x7\", \"bc+0x10\"]\nframes = [\"{inner}\", \"{caller}\"]\n"
        )
    };
    let found = compiled(&policy("line", &site("BrandesBC bc.cc:90", "operator new")), &program);
    assert_eq!(found.resolved, [(1, How::Line)]);
    let frames = &found.spec.rules[0].frames;
    assert_eq!((ranges(&frames[0]), ranges(&frames[1])), (&[(0x40, 0x41)][..], &[(0x200, 0x201)][..]));
    let found = compiled(&policy("line", &site("BrandesBC bc.cc:90", "operator new new.cc:50")), &program);
    assert_eq!(ranges(&found.spec.rules[0].frames[0]), [(0x40, 0x41)]);
    // Where the program was not rebuilt, its own frame stands.
    program.modules.insert("bc", vec![0xaa]);
    let found = compiled(&policy("line", &site("BrandesBC", "operator new")), &program);
    assert_eq!(ranges(&found.spec.rules[0].frames[1]), [(0x10, 0x11)]);
    // A caller without a line is any call of its function, and an allocator without a name is anything.
    program.modules.insert("bc", vec![0xcc]);
    for (caller, inner) in
        [("BrandesBC", "operator new"), ("BrandesBC bc.cc:90", ""), ("BrandesBC bc.cc:90", "gone new.cc:1")]
    {
        let lost = compiled(&policy("line", &site(caller, inner)), &program);
        assert!(lost.resolved.is_empty(), "{caller} {inner}");
    }
}

#[test]
fn a_link_stands_for_the_file_it_leads_to() {
    let mut program = same_build();
    program.modules.insert("libm.so", vec![0xbb]);
    let site = "[[rule]]\ntier = \"fast\"\nsite = [\"libm.so+0x10\"]\n";
    assert_eq!(compiled(&policy("line", site), &program).spec.modules[0].name, "libm.so.6");
}

#[test]
fn where_only_the_line_is_gone_the_way_to_match_by_function_is_shown() {
    let site = "[[rule]]\ntier = \"fast\"\nsite = [\"bc+0x10\"]\nframes = [\"BrandesBC bc.cc:89\"]\n";
    let lost = compiled(&policy("line", site), &rebuilt());
    insta::assert_snapshot!(lost.unresolved[0].why, @r#"`bc` was rebuilt, and `BrandesBC` has no call at bc.cc:89 any more: profile it anew (`tierscope record`), or take all its calls with `match = "function"` in [program]"#);
    let by_function = compiled(&policy("function", site), &rebuilt());
    assert_eq!(by_function.resolved, [(1, How::Function)]);
    assert_eq!(by_function.spec.rules[0].frames[0].ranges.len(), 3);
}

#[test]
fn a_global_is_found_by_name_and_by_size_where_names_repeat() {
    let rules = "[[rule]]\ntier = \"fast\"\nsymbol = \"u0\"\nbytes = 800\n";
    let mut program = rebuilt();
    let one = compiled(&policy("line", rules), &program);
    assert_eq!((one.spec.globals[0].address, one.spec.globals[0].bytes, one.spec.globals[0].number), (0x5000, 800, 1));
    assert!(compiled(&policy("exact", rules), &program).spec.globals.is_empty());

    program.globals.push(("bc", "u0", 0x6000, 900));
    assert_eq!(compiled(&policy("line", rules), &program).spec.globals[0].address, 0x5000);
    program.globals.push(("bc", "u0", 0x7000, 800));
    let why = &compiled(&policy("line", rules), &program).unresolved[0].why;
    insta::assert_snapshot!(why, @"`bc` has 3 globals `u0`, and `bytes` does not tell which");
}

#[test]
fn rules_keep_the_order_of_the_file() {
    let rules = format!(
        "[[rule]]\ntier = \"slow\"\nsize = \"< 4 KiB\"\n{SITE}[[rule]]\ntier = \"fast\"\nsize = \">= 1 GiB\"\n"
    );
    let compiled = compiled(&policy("line", &rules), &same_build());
    assert_eq!(compiled.spec.rules.iter().map(|rule| rule.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(compiled.resolved[0], (1, How::Size));
    assert_eq!(compiled.spec.rules[0].max_bytes, 4095);
}
