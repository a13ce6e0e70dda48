//! Whatever the text, the front end answers with a plan or an error: never a panic, never a hang.

mod support;

use std::path::Path;

/// A small generator: the same cases on every run.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(n.max(1)).expect("small")).expect("small")
    }
}

/// Mutations per case.
const ROUNDS: usize = 6;

fn cases() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).expect("test files") {
        let text = std::fs::read_to_string(entry.expect("entry").path()).expect("readable");
        let (setup, cases) = text.split_once("====\n").expect("setup");
        for case in cases.split("\n====\n").filter(|c| !c.trim().is_empty()) {
            let sql = case.split("\n----").next().unwrap_or(case);
            out.push((setup.to_owned(), sql.to_owned()));
        }
    }
    out
}

#[test]
fn truncated_and_mutated_statements_never_panic() {
    let mut rng = Rng(7);
    let words = [
        "SELECT",
        "(",
        ")",
        ",",
        "FROM",
        "'x",
        "`",
        "GROUP BY",
        "NULL",
        ".",
        "*",
        "TABLE",
        "INTERVAL",
        "CASE",
        "WHEN",
        "AS",
        ";",
        "1e999",
        "99999999999999999999999999999999999999999",
        "=>",
        "ROW<",
        ">>",
        "é",
        "--",
        "/*",
    ];
    let mut errors = 0;
    for (setup, sql) in cases() {
        for _ in 0..ROUNDS {
            let chars: Vec<char> = sql.chars().collect();
            let at = rng.below(chars.len());
            let head: String = chars[..at].iter().collect();
            let skip = rng.below(8).min(chars.len() - at);
            let tail: String = chars[at + skip..].iter().collect();
            let word = words[rng.below(words.len())];
            for text in [head.clone(), format!("{head} {word} {tail}"), format!("{head}{tail}")] {
                errors += usize::from(support::run_after(&setup, &text).contains("ERROR"));
            }
        }
    }
    assert!(errors > 100, "mutations hardly ever fail: {errors}");
}

#[test]
fn deep_nesting_is_an_error_with_a_place() {
    let deep = [
        format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("SELECT {} TRUE", "NOT ".repeat(20_000)),
        format!("SELECT {}1", "- ".repeat(20_000)),
        format!("SELECT 1{}", " + 1".repeat(50_000)),
        format!("SELECT {} 1 {}", "CASE WHEN TRUE THEN".repeat(3000), "END".repeat(3000)),
        format!("SELECT * FROM {} (SELECT 1) {}", "(SELECT * FROM".repeat(500), ")".repeat(500)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(5000)),
        format!("CREATE TABLE t (a {}INT{}) WITH ('connector' = 'print')", "ARRAY<".repeat(5000), ">".repeat(5000)),
    ];
    for sql in deep {
        let out = support::run_after("", &sql);
        assert!(out.contains("ERROR line 1"), "{}: {out}", &sql[..40]);
    }
}

#[test]
fn nesting_below_the_limits_plans() {
    let fine = [
        format!("SELECT {}1{}", "(".repeat(30), ")".repeat(30)),
        format!("SELECT 1{}", " + 1".repeat(250)),
        format!("SELECT * FROM {} (SELECT 1) {}", "(SELECT * FROM".repeat(20), ")".repeat(20)),
        format!("SELECT 1 IN ({}1)", "2, ".repeat(2000)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(100)),
    ];
    for sql in fine {
        let out = support::run_after("", &sql);
        assert!(out.starts_with("job:"), "{}: {out}", &sql[..20]);
    }
}
