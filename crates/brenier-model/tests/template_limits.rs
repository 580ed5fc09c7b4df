//! Hostile chat templates: each ends soon, in little memory, on a small stack, with one line that says why.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use brenier_model::{ChatTemplate, Message, ModelError, RenderOptions};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;
/// The allocator counts for all threads: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// The engine lets a rendering make 128 MiB and a list keep as much room again while it grows.
const MEMORY_MB: f32 = 300.0;
/// A hundred times what the slowest takes, for machines that are busy.
const TIME: Duration = Duration::from_secs(60);

const STEPS: &str = "steps, the limit for this input";
const BYTES: &str = "MiB of text and lists, the limit for this input";
const VALUES: &str = "nests values in more than 200 levels";
const CALLS: &str = "nests calls and expressions in more than 500 levels";
const NESTED: &str = "an expression nested in more than 200 levels";
const BLOCKS: &str = "blocks nested in more than 100 levels";

/// Renders on a stack of 1 MiB, within time and memory.
fn render(source: &str) -> Result<String, ModelError> {
    let before = ALLOCATED.current_usage_as_mb();
    ALLOCATED.reset_peak_usage();
    let start = Instant::now();
    let now = "2024-02-29T12:00:00".parse().unwrap();
    let options = RenderOptions { now: Some(now), ..RenderOptions::default() };
    let run = || {
        ChatTemplate::new(source, Default::default())
            .and_then(|template| template.render_with(&[Message::user("x")], &options))
    };
    let rendered = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(1 << 20);
        builder.spawn_scoped(scope, run).unwrap().join().unwrap()
    });
    let (memory, time) = (ALLOCATED.peak_usage_as_mb() - before, start.elapsed());
    let head: String = source.chars().take(200).collect();
    assert!(memory < MEMORY_MB, "{memory} MB: {head}");
    assert!(time < TIME, "{time:?}: {head}");
    if let Err(error) = &rendered {
        let line = error.to_string();
        assert!(!line.contains('\n') && line.len() < 2000, "{line}");
    }
    rendered
}

fn fails(source: &str, limit: &str) {
    let head: String = source.chars().take(200).collect();
    let error = render(source).expect_err(&head);
    assert!(matches!(error, ModelError::Template { .. }), "{error:?}");
    assert!(error.to_string().contains(limit), "`{limit}` is not in `{error}`: {head}");
}

fn around(open: &str, middle: &str, close: &str, times: usize) -> String {
    format!("{}{middle}{}", open.repeat(times), close.repeat(times))
}

/// A value that a loop replaces by something made of it, again and again.
fn grown(start: &str, step: &str) -> String {
    format!(
        "{{% set ns = namespace(x={start}) %}}{{% for i in range(100000) %}}{{% set ns.x = {step} %}}{{% endfor %}}\
         {{{{ ns.x }}}}"
    )
}

#[test]
fn steps_are_bounded() {
    let _alone = ALONE.lock();
    fails("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", STEPS);
    fails(&format!("{{{{ {} }}}}", "range(100000)|map('string')|unique|list|length"), STEPS);
    // Shared parts: few values to make, endlessly many to visit.
    fails(&grown("[1]", "[ns.x, ns.x] if i < 100 else ns.x"), STEPS);
    fails(&grown("(1,)", "(ns.x, ns.x) if i < 100 else {ns.x: 1}"), STEPS);
    fails(&format!("{}{}", grown("[1]", "[ns.x, ns.x] if i < 100 else ns.x"), "{{ ns.x|tojson }}"), STEPS);
    fails(&grown("[1]", "[ns.x, ns.x] if i < 100 else ns.x|pprint"), STEPS);
    fails(&grown("[1]", "[ns.x, ns.x] if i < 100 else [ns.x == ns.x]"), STEPS);
    // Long texts, looked at in a loop.
    for look in [
        "'b' in big",
        "big|length",
        "big == big ~ ''",
        "big.find('b')",
        "big.isalpha()",
        "big is lower",
        "big|float",
        "big.strip('ab')",
        "big.count('b')",
        "(big, 1) < (big, 2)",
        "''.find(big)",
        "big|wordcount",
    ] {
        let source = format!(
            "{{% set big = 'a' * 1000000 %}}{{% for i in range(100000) %}}{{% if {look} %}}{{% endif %}}{{% endfor %}}"
        );
        let error = render(&source).expect_err(look).to_string();
        assert!(error.contains(STEPS) || error.contains(BYTES), "{look}: {error}");
    }
    // Names and keys, looked up among many.
    let many = "{% set many = dict.fromkeys(range(20000)|map('string')) %}{% for i in range(100000) %}";
    for look in [
        "many['x']",
        "many == many",
        "'x' in many.values()",
        "namespace(**many).x",
        "'{x}'.format(x=1, **many)",
    ] {
        fails(&format!("{many}{{% if {look} %}}{{% endif %}}{{% endfor %}}"), STEPS);
    }
    let variables: String = (0..8000).map(|i| format!("{{% set b{i} = 1 %}}")).collect();
    fails(&format!("{{% for i in range(100000) %}}{variables}{{% endfor %}}"), STEPS);
    let parameters: Vec<String> = (0..16000).map(|i| format!("a{i}=1")).collect();
    fails(&format!("{{% macro f({}) %}}{{% endmacro %}}{{{{ f() }}}}", parameters.join(",")), STEPS);
}

#[test]
fn text_and_lists_are_bounded() {
    let _alone = ALONE.lock();
    // What doubles, by operators, filters, methods and blocks.
    for step in [
        "ns.x ~ ns.x",
        "ns.x + ns.x",
        "ns.x * 2",
        "2 * ns.x",
        "[ns.x, ns.x]|join",
        "ns.x|replace('a', 'aa')",
        "ns.x.replace('', ns.x)",
        "'%s%s' % (ns.x, ns.x)",
        "'%s%s'|format(ns.x, ns.x)",
        "'{0}{0}'.format(ns.x)",
        "ns.x|center(ns.x|length * 2)",
        "ns.x.ljust(ns.x|length * 2)",
        "ns.x.join([ns.x, ns.x])",
        "ns.x|tojson",
        "ns.x|e|string|forceescape|replace('', '')",
        "(ns.x, ns.x)|string",
        "(ns.x ~ '\n')|indent(ns.x|length)",
        "[ns.x]|pprint",
    ] {
        let error = render(&grown("'a<b'", step)).expect_err(step).to_string();
        assert!(error.contains(BYTES) || error.contains(STEPS), "{step}: {error}");
    }
    for step in ["ns.x + ns.x", "ns.x * 2", "[ns.x, ns.x]|sum(start=[])", "ns.x[:] + ns.x[::-1]"] {
        fails(&grown("[1, 2]", step), BYTES);
    }
    fails(&format!("{{% set x = 'aaaaaaaa' %}}{}", "{% set x = x ~ x %}".repeat(60)), BYTES);
    fails(&format!("{{% set x = 'a' %}}{}", "{% set x %}{{ x }}{{ x }}{% endset %}".repeat(60)), BYTES);
    let twice = "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{% set x = 'aaaaaaaa' %}";
    fails(&format!("{twice}{}", "{% set x = twice(x) %}".repeat(60)), BYTES);
    // One operation that asks for too much.
    for value in [
        "'a' * 10**9",
        "10**30 * 'a'",
        "'a'|center(10**10)",
        "'a'.rjust(10**10, 'x')",
        "'1'.zfill(10**10)",
        "'%*d' % (10**10, 5)",
        "'%10000000000d' % 5",
        "'%.10000000000d' % 5",
        "'{:10000000000}'.format(5)",
        "[1]|tojson(indent=10**10)",
        "[[[1]]]|tojson(indent='x' * 10**7)",
        "'a\nb'|indent(10**10)",
        "'a\nb'|indent('x' * 10**8, true)",
        "[1] * 10**10",
        "(1, 2) * 10**20",
        "range(100000)|list * 1000",
        "[0]|batch(10**10, 'x')|list",
        "[0]|slice(10**10)|list",
        "'abc'.replace('', 'x' * 10**8)",
        "[1, 2, 3]|join('x' * 10**8)",
        "('a' * 10**8)|list",
        "('a ' * 10**7).split()",
    ] {
        let error = render(&format!("{{{{ {value} }}}}")).expect_err(value).to_string();
        assert!(error.contains(BYTES) || error.contains(STEPS), "{value}: {error}");
    }
    // What is written out, and what is kept.
    let line = "x".repeat(1000);
    fails(
        &format!("{{% for i in range(100000) %}}{{% for j in range(9) %}}{line}{{% endfor %}}{{% endfor %}}"),
        BYTES,
    );
    fails(&grown("[]", "ns.x + [i|string]"), BYTES);
    // Numbers have bounds of their own.
    for value in ["2 ** (10 ** 9)", "10 ** 10 ** 10", "9 ** (9 ** 9)", "range(10**10)", "'%.1000000000f' % 5"]
    {
        render(&format!("{{{{ {value} }}}}")).expect_err(value);
    }
}

#[test]
fn values_nest_so_deep_and_no_deeper() {
    let _alone = ALONE.lock();
    for step in [
        "[ns.x]",
        "(ns.x,)",
        "{'k': ns.x}",
        "[ns.x]|reverse",
        "cycler(ns.x)",
        "joiner(ns.x)",
        "[ns.x.copy, 1]",
        "[[ns.x, 1]]|groupby(1)",
        "dict(k=ns.x).items()",
    ] {
        fails(&grown("[]", step), VALUES);
    }
    // Namespaces may refer to themselves; printing them may not go on for ever.
    fails("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", VALUES);
    fails("{% set ns = namespace() %}{% set ns.x = [ns, ns] %}{{ ns }}", VALUES);
    fails("{% set ns = namespace() %}{% set ns.x = {'k': ns} %}{{ [ns]|pprint }}", VALUES);
    fails("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns|tojson }}", "cannot be written as JSON");
    fails(&grown("1", "namespace(l=ns.x)"), VALUES);
    assert_eq!(
        render("{% set a = namespace() %}{% set b = namespace(x=a) %}{% set a.x = b %}{{ a == b }}{{ a.x.x == a }}").unwrap(),
        "FalseTrue"
    );
}

#[test]
fn recursion_is_bounded() {
    let _alone = ALONE.lock();
    for source in [
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% macro f(n) %}{% if true %}{% for i in [1] %}{{ [f(n)|upper] }}{% endfor %}{% endif %}{% endmacro %}{{ f(0) }}",
        "{% macro f(n) %}{{ f(f(n)) }}{% endmacro %}{{ f(0) }}",
        "{% macro f(a=f()) %}{% endmacro %}{{ f() }}",
        "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{{ caller() }}{% endmacro %}{% call f() %}x{% endcall %}",
        "{% macro f() %}{% filter upper %}{{ f() }}{% endfilter %}{% endmacro %}{{ f() }}",
        "{% macro f() %}{% set x %}{{ f() }}{% endset %}{% endmacro %}{{ f() }}",
        "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ g() }}",
        "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}",
    ] {
        fails(source, CALLS);
    }
    // Not deep, but wide: 2^100 calls.
    let wide =
        "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}";
    let error = render(wide).unwrap_err().to_string();
    assert!(error.contains(STEPS) || error.contains(BYTES), "{error}");
    // Published templates describe the parameters of tools by recursion: 40 levels are no trouble.
    let schema = "{% macro f(n) %}{% if n %}{% for i in [1] %}<{{ f(n - 1) }}>{% endfor %}{% endif %}{% endmacro %}{{ f(40) }}";
    assert_eq!(render(schema).unwrap(), around("<", "", ">", 40));
    for tag in ["import 'chat_template' as x", "include 'chat_template'", "extends 'chat_template'"] {
        fails(&format!("{{% {tag} %}}"), "needs another template");
    }
    fails("{% block a %}{{ self.a() }}{% endblock %}", "a reference to a block");
}

#[test]
fn sources_nest_so_deep_and_no_deeper() {
    let _alone = ALONE.lock();
    let expressions: [(&str, &str, &str); 12] = [
        ("(", "1", ")"),
        ("[", "", "]"),
        ("{1:", "1", "}"),
        ("f(", "", ")"),
        ("x[", "0", "]"),
        ("1|d(", "1", ")"),
        ("-", "1", ""),
        ("not ", "1", ""),
        ("1+", "1", ""),
        ("1 if x else ", "1", ""),
        ("1 and ", "1", ""),
        ("1 is eq(", "1", ")"),
    ];
    for (open, middle, close) in expressions {
        for times in [250, 15_000] {
            fails(&format!("{{{{ {} }}}}", around(open, middle, close, times)), NESTED);
        }
        let taken = render(&format!("{{{{ {} is defined }}}}", around(open, middle, close, 60)));
        assert!(!taken.is_err_and(|e| e.to_string().contains("levels")), "{open}");
    }
    for after in ["|d", ".a", "[0]", "()", " if x", " is defined or x", "[:]", "[::1]"] {
        fails(&format!("{{{{ x{} }}}}", after.repeat(12_000)), NESTED);
    }
    fails(&format!("{{% set {} = 1 %}}", around("(", "x", ")", 15_000)), NESTED);
    for (open, close) in [
        ("{% if true %}", "{% endif %}"),
        ("{% for i in [1] %}", "{% endfor %}"),
        ("{% macro f() %}", "{% endmacro %}"),
        ("{% call f() %}", "{% endcall %}"),
        ("{% filter upper %}", "{% endfilter %}"),
        ("{% set x %}", "{% endset %}"),
        ("{% with %}", "{% endwith %}"),
        ("{% generation %}", "{% endgeneration %}"),
        ("{% autoescape false %}", "{% endautoescape %}"),
    ] {
        for times in [101, 5_000] {
            fails(&around(open, "x", close, times), BLOCKS);
        }
    }
    // What is long without being deep is fine.
    assert_eq!(render(&format!("{{{{ 1{} }}}}", "~1".repeat(10_000))).unwrap().len(), 10_001);
    assert_eq!(
        render(&format!("{{% if x %}}{}{{% else %}}y{{% endif %}}", "{% elif x %}".repeat(10_000))).unwrap(),
        "y"
    );
    let branches = "{% elif a %}{% set b = 1 %}{{ c }}".repeat(5_000);
    assert_eq!(render(&format!("{{% if x %}}{branches}{{% endif %}}")).unwrap(), "");
    fails(&"x".repeat((1 << 18) + 1), "expected at most 262144 bytes, found 262145");
}

#[test]
fn a_prompt_of_ten_megabytes_renders() {
    let _alone = ALONE.lock();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/templates");
    let words = "How high is the tower? ".repeat(10 * (1 << 20) / 23);
    let now = "2024-02-29T12:00:00".parse().unwrap();
    let options = RenderOptions { add_generation_prompt: true, now: Some(now), ..RenderOptions::default() };
    for name in ["llama-2", "llama-3.1", "qwen-2.5", "thinking", "blocks"] {
        let source = std::fs::read_to_string(golden.join(format!("{name}.jinja"))).unwrap();
        let tokens = [("bos_token".to_owned(), "<s>".into()), ("eos_token".to_owned(), "</s>".into())];
        let template = ChatTemplate::new(source, tokens.into_iter().collect()).unwrap();
        let start = Instant::now();
        let text = template.render_with(&[Message::user(words.as_str())], &options).unwrap();
        assert!(text.contains(words.trim()), "{name}");
        assert!(start.elapsed() < Duration::from_secs(20), "{name}: {:?}", start.elapsed());
    }
    // Word by word, too.
    let each =
        "{% for word in messages[0].content.split() %}{{ word|upper }}{{ ' ' if not loop.last }}{% endfor %}";
    let template = ChatTemplate::new(each, Default::default()).unwrap();
    let text = template.render(&[Message::user(words.as_str())], true).unwrap();
    assert_eq!(text, words.trim().to_uppercase());
}

/// Parts of templates, to be put where they do not belong.
const PARTS: &[&str] = &[
    "{%",
    "%}",
    "{{",
    "}}",
    "{#",
    "#}",
    "{%-",
    "-%}",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "\\",
    "|",
    "~",
    ".",
    ",",
    ":",
    "=",
    " ",
    "\n",
    "0",
    "1e9",
    "99999999999",
    " not ",
    " or ",
    " if ",
    " else ",
    " in ",
    " is ",
    " * ",
    " ** ",
    "%",
    "{% endif %}",
    "{% endfor %}",
    "{% else %}",
    "{% for message in messages %}",
    "{% set x = x ~ x %}",
    "{% break %}",
    "{% macro f() %}{{ f() }}{% endmacro %}",
    "{{ loop }}",
    "{{ x }}",
    "range(99999)",
    "|list",
    "|tojson(indent=99999)",
    "|map('upper')",
    "|indent(9999)",
    "|join",
    "message",
    "messages",
    "☃",
    "{% raw %}",
    "{% generation %}",
    "[::-1]",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_template_fails_or_renders(
        which in 0_usize..7,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(PARTS)), 1..6),
    ) {
        let _alone = ALONE.lock();
        let names = ["llama-2", "llama-3.1", "qwen-2.5", "thinking", "no-system", "blocks", "python"];
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/templates");
        let mut source: Vec<char> =
            std::fs::read_to_string(golden.join(format!("{}.jinja", names[which]))).unwrap().chars().collect();
        for (at, removed, part) in edits {
            let at = at.index(source.len());
            let end = (at + removed).min(source.len());
            source.splice(at..end, part.chars());
        }
        // The limits hold; whether it renders is not the question.
        drop(render(&source.into_iter().collect::<String>()));
    }
}
