//! What completes a word: keywords, tables, columns, functions, options. Looks at the words around it; parses nothing.

use std::sync::LazyLock;

use flott_core::config::OPTIONS;

/// Words of Flink's SQL that are completed and coloured, sorted.
static KEYWORDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut words: Vec<&str> = WORDS.split_whitespace().collect();
    words.sort_unstable();
    words
});
const WORDS: &str = "
    ADD AFTER ALL ALTER AND ANTI ANY ARRAY AS ASC ASYMMETRIC AT BEGIN BETWEEN BIGINT BINARY BOOLEAN BOTH BY BYTES CASCADE CASE CAST
    CATALOG CATALOGS CHANGELOG_MODE CHAR CLASSIFIER COLUMN COLUMNS COMMENT CONSTRAINT CREATE CROSS CUBE CUMULATE CURRENT DATABASE
    DATABASES DATE DECIMAL DEFINE DESC DESCRIBE DESCRIPTOR DISTINCT DOUBLE DROP ELSE EMPTY END ENFORCED ESCAPE EXCEPT EXECUTE
    EXISTS EXPLAIN EXTENDED FALSE FETCH FILTER FIRST FLOAT FOLLOWING FOR FROM FULL FUNCTION FUNCTIONS GROUP GROUPING HAVING HOP IF
    IN INCLUDING INNER INSERT INT INTEGER INTERSECT INTERVAL INTO IS JOIN JSON_EXECUTION_PLAN KEY LANGUAGE LAST LATERAL LEADING
    LEFT LIKE LIMIT LOCAL MAP MATCH MATCH_RECOGNIZE MEASURES METADATA MULTISET NATURAL NEXT NOT NULL NULLS OF OFFSET ON ONE OR
    ORDER OUTER OVER OVERWRITE PARTITION PARTITIONED PARTITIONS PAST PATTERN PER PLAN_ADVICE PRECEDING PRIMARY RANGE RECURSIVE
    RENAME RESET RIGHT ROLLUP ROW ROWS RUST SELECT SEMI SESSION SET SETS SHOW SIMILAR SIZE SKIP SMALLINT STATEMENT STRING SYMMETRIC
    SYSTEM SYSTEM_TIME TABLE TABLES TABLESAMPLE TEMPORARY THEN TIME TIMESTAMP TIMESTAMP_LTZ TINYINT TO TRAILING TRUE TRY_CAST
    TUMBLE UNBOUNDED UNION UNIQUE UNKNOWN UNNEST USE USING VALUES VARBINARY VARCHAR VIEW VIEWS VIRTUAL WATERMARK WHEN WHERE WINDOW
    WITH WITHIN WITHOUT ZONE";

/// Words behind which a table's name comes.
const BEFORE_TABLES: &[&str] =
    &["FROM", "JOIN", "INTO", "TABLE", "VIEW", "DESCRIBE", "DESC", "OVERWRITE", "EXISTS", "LIKE"];

/// Names that the session knows.
#[derive(Default)]
pub struct Names {
    /// Tables and views with their columns.
    pub tables: Vec<(String, Vec<String>)>,
    /// Functions.
    pub functions: Vec<String>,
}

/// Whether a word is one of Flink's.
pub fn is_keyword(word: &str) -> bool {
    KEYWORDS.binary_search(&word.to_ascii_uppercase().as_str()).is_ok()
}

/// Where the word before `at` begins, and what it may become.
pub fn complete(names: &Names, line: &str, at: usize) -> (usize, Vec<String>) {
    let before = &line[..at];
    let statement = before.rfind(';').map_or(before, |i| &before[i + 1..]);
    if let Some(quote) = statement.rfind('\'').filter(|_| statement.matches('\'').count() % 2 == 1) {
        return (at - (statement.len() - quote - 1), options(statement, &statement[quote + 1..]));
    }
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let word = before.rsplit(|c| !part(c)).next().unwrap_or("");
    let rest = &before[..at - word.len()];
    let begins = |name: &str| name.to_lowercase().starts_with(&word.to_lowercase());
    let quoted = |name: &String| {
        let simple = name.chars().all(part) && !name.starts_with(|c: char| c.is_ascii_digit()) && !is_keyword(name);
        if simple { name.clone() } else { format!("`{}`", name.replace('`', "``")) }
    };
    let mut found: Vec<String> = Vec::new();
    if let Some(owner) = rest.strip_suffix('.') {
        let owner = owner.rsplit(|c| !part(c)).next().unwrap_or("");
        found.extend(columns_of(names, line, owner).iter().filter(|c| begins(c)).map(quoted));
    } else if word.is_empty() && !rest.ends_with(char::is_whitespace) {
        return (at, found);
    } else {
        let last = rest.split_whitespace().next_back().unwrap_or("").to_ascii_uppercase();
        let tables = names.tables.iter().map(|(name, _)| name).filter(|n| begins(n)).map(quoted);
        if BEFORE_TABLES.contains(&last.as_str()) || (word.is_empty() && last == ",") {
            found.extend(tables);
        } else if !word.is_empty() {
            found.extend(names.tables.iter().flat_map(|(_, columns)| columns).filter(|c| begins(c)).map(quoted));
            found.extend(tables);
            found.extend(names.functions.iter().filter(|f| begins(f)).map(|f| cased(word, f)));
        }
        if !word.is_empty() {
            found.extend(KEYWORDS.iter().filter(|k| begins(k)).map(|k| cased(word, k)));
        }
    }
    found.sort();
    found.dedup();
    (at - word.len(), found)
}

/// A keyword or function as the user writes them: small when the word so far is.
fn cased(word: &str, name: &str) -> String {
    if word.chars().any(char::is_uppercase) { name.to_uppercase() } else { name.to_lowercase() }
}

/// Keys of options inside quotes behind SET and RESET.
fn options(statement: &str, key: &str) -> Vec<String> {
    let words: Vec<&str> = statement.split_whitespace().collect();
    let first = words.first().is_some_and(|w| ["SET", "RESET"].iter().any(|s| w.eq_ignore_ascii_case(s)));
    if !first || statement.contains('=') {
        return Vec::new();
    }
    let mut keys: Vec<String> =
        OPTIONS.iter().map(|o| o.key).filter(|k| k.starts_with(key)).map(str::to_owned).collect();
    keys.sort();
    keys
}

/// Columns of the table of a name, or of the one that the statement gives this name.
fn columns_of(names: &Names, line: &str, owner: &str) -> Vec<String> {
    let table = |name: &str| names.tables.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, c)| c.clone());
    if let Some(columns) = table(owner) {
        return columns;
    }
    let words: Vec<&str> =
        line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').filter(|w| !w.is_empty()).collect();
    let alias = words.iter().enumerate().skip(1).filter(|(_, w)| w.eq_ignore_ascii_case(owner)).find_map(|(i, _)| {
        let named = if words[i - 1].eq_ignore_ascii_case("AS") { i.checked_sub(2)? } else { i - 1 };
        table(words[named])
    });
    alias.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let columns = |c: &[&str]| c.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        Names {
            tables: vec![
                ("orders".to_owned(), columns(&["order_id", "price", "select"])),
                ("Other one".to_owned(), columns(&["x"])),
            ],
            functions: vec!["upper".to_owned(), "ordinal".to_owned()],
        }
    }

    fn found(line: &str) -> Vec<String> {
        complete(&names(), line, line.len()).1
    }

    #[test]
    fn words_complete_by_what_is_before_them() {
        assert_eq!(found("sel"), ["`select`", "select"]);
        assert_eq!(found("SELECT OR"), ["OR", "ORDER", "ORDINAL", "order_id", "orders"]);
        let behind_from = found("SELECT * FROM or");
        assert_eq!(behind_from, ["or", "order", "orders"]);
        assert_eq!(found("DESCRIBE "), ["`Other one`", "orders"]);
        assert_eq!(
            complete(&names(), "SELECT o. FROM orders AS o", 9),
            (9, vec!["`select`".into(), "order_id".into(), "price".into()])
        );
        assert_eq!(found("SELECT * FROM orders o WHERE o.p"), ["price"]);
        assert_eq!(found("SELECT orders.or"), ["order_id"]);
        assert_eq!(found("SELECT 1; UPP"), ["UPPER"]);
        assert_eq!(found("SELECT 'sel"), Vec::<String>::new());
        assert_eq!(found("SET 'table.exec.state."), ["table.exec.state.ttl"]);
        assert_eq!(found("SET 'table.exec.state.ttl' = 'x"), Vec::<String>::new());
        assert_eq!(found("SELECT "), Vec::<String>::new());
    }

    #[test]
    fn keywords_are_known_in_any_case() {
        assert!(is_keyword("Select") && is_keyword("WATERMARK") && !is_keyword("flott"));
        assert!(KEYWORDS.windows(2).all(|w| w[0] < w[1]), "a word is there twice");
    }
}
