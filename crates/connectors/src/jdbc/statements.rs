//! The statements that write rows: multi-row inserts, upserts and deletes of at most a packet; pure text, sends nothing.

use super::target::{Target, quote};
use super::url::Dialect;

/// Placeholders of one statement at most: both protocols count them in 16 bits.
const PLACEHOLDERS_MAX: usize = 65_535;
/// Up to so many rows a statement has exactly the rows there are; above, powers of two, so that few are prepared.
const EXACT_ROWS: usize = 64;

/// How many of `rows` rows the next statement takes.
pub fn piece(rows: usize, columns: usize, full: usize) -> usize {
    let limit = (PLACEHOLDERS_MAX / columns.max(1)).max(1);
    if rows == full && full <= limit {
        return rows;
    }
    let rows = rows.min(limit);
    if rows <= EXACT_ROWS { rows } else { 1 << rows.ilog2() }
}

fn placeholder(dialect: Dialect, n: usize, out: &mut String) {
    match dialect {
        Dialect::MySql => out.push('?'),
        Dialect::Postgres => {
            out.push('$');
            out.push_str(&n.to_string());
        }
    }
}

fn list(target: &Target, columns: impl Iterator<Item = usize>) -> String {
    let names: Vec<String> = columns.map(|c| quote(target.dialect, &target.names[c])).collect();
    names.join(", ")
}

/// Inserts `rows` rows of all columns; with a key, rows that are there are overwritten.
pub fn insert(target: &Target, rows: usize) -> String {
    let columns = target.names.len();
    let mut sql = format!("INSERT INTO {} ({}) VALUES ", target.table_sql, list(target, 0..columns));
    for row in 0..rows {
        sql.push_str(if row > 0 { ",(" } else { "(" });
        for column in 0..columns {
            if column > 0 {
                sql.push(',');
            }
            placeholder(target.dialect, row * columns + column + 1, &mut sql);
        }
        sql.push(')');
    }
    if target.key.is_empty() {
        return sql;
    }
    let set = |source: fn(&str) -> String| {
        let rest = (0..columns).filter(|c| !target.key.contains(c)).map(|c| quote(target.dialect, &target.names[c]));
        rest.map(|name| format!("{name} = {}", source(&name))).collect::<Vec<_>>().join(", ")
    };
    match target.dialect {
        Dialect::MySql => {
            let set = set(|name| format!("VALUES({name})"));
            let key = quote(target.dialect, &target.names[target.key[0]]);
            let set = if set.is_empty() { format!("{key} = {key}") } else { set };
            sql.push_str(&format!(" ON DUPLICATE KEY UPDATE {set}"));
        }
        Dialect::Postgres => {
            let set = set(|name| format!("EXCLUDED.{name}"));
            let action = if set.is_empty() { "DO NOTHING".to_owned() } else { format!("DO UPDATE SET {set}") };
            sql.push_str(&format!(" ON CONFLICT ({}) {action}", list(target, target.key.iter().copied())));
        }
    }
    sql
}

/// `(k = ? AND l = ?) OR …` over `rows` keys of these columns, or `k IN (?, …)`; both find rows by an index.
pub fn key_condition(target: &Target, columns: &[usize], rows: usize) -> String {
    let mut sql = String::new();
    let names: Vec<String> = columns.iter().map(|c| quote(target.dialect, &target.names[*c])).collect();
    if let [name] = names.as_slice() {
        sql.push_str(&format!("{name} IN ("));
        for row in 0..rows {
            if row > 0 {
                sql.push(',');
            }
            placeholder(target.dialect, row + 1, &mut sql);
        }
        sql.push(')');
        return sql;
    }
    for row in 0..rows {
        sql.push_str(if row > 0 { " OR (" } else { "(" });
        for (i, name) in names.iter().enumerate() {
            sql.push_str(if i > 0 { " AND " } else { "" });
            sql.push_str(name);
            sql.push_str(" = ");
            placeholder(target.dialect, row * names.len() + i + 1, &mut sql);
        }
        sql.push(')');
    }
    sql
}

/// Deletes the rows of `rows` keys.
pub fn delete(target: &Target, rows: usize) -> String {
    format!("DELETE FROM {} WHERE {}", target.table_sql, key_condition(target, &target.key, rows))
}

/// Reads columns of the table; PostgreSQL sends all but bytes as text.
pub fn select(target: &Target, bytes: impl Fn(usize) -> bool) -> String {
    let column = |(i, name): (usize, &String)| {
        let name = quote(target.dialect, name);
        if target.dialect == Dialect::Postgres && !bytes(i) { format!("{name}::text") } else { name }
    };
    let columns: Vec<String> = target.names.iter().enumerate().map(column).collect();
    format!("SELECT {} FROM {}", columns.join(", "), target.table_sql)
}

#[cfg(test)]
mod tests {
    use super::super::target::Holds;
    use super::*;

    fn target(dialect: Dialect, names: &[&str], key: &[usize]) -> Target {
        let table = ("d".to_owned(), "t".to_owned());
        Target {
            dialect,
            table_sql: format!("{}.{}", quote(dialect, "d"), quote(dialect, "t")),
            table,
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            holds: vec![Holds::Integer; names.len()],
            key: key.to_vec(),
        }
    }

    #[test]
    fn upserts_and_deletes_as_each_server_writes_them() {
        let my = target(Dialect::MySql, &["k", "v`"], &[0]);
        assert_eq!(
            insert(&my, 2),
            "INSERT INTO `d`.`t` (`k`, `v```) VALUES (?,?),(?,?) ON DUPLICATE KEY UPDATE `v``` = VALUES(`v```)"
        );
        assert_eq!(delete(&my, 3), "DELETE FROM `d`.`t` WHERE `k` IN (?,?,?)");
        let pg = target(Dialect::Postgres, &["a", "b", "c"], &[0, 2]);
        assert_eq!(
            insert(&pg, 1),
            r#"INSERT INTO "d"."t" ("a", "b", "c") VALUES ($1,$2,$3) ON CONFLICT ("a", "c") DO UPDATE SET "b" = EXCLUDED."b""#
        );
        assert_eq!(delete(&pg, 2), r#"DELETE FROM "d"."t" WHERE ("a" = $1 AND "c" = $2) OR ("a" = $3 AND "c" = $4)"#);
        let keys = target(Dialect::Postgres, &["a"], &[0]);
        assert!(insert(&keys, 1).ends_with(r#"ON CONFLICT ("a") DO NOTHING"#));
        let keys = target(Dialect::MySql, &["a"], &[0]);
        assert!(insert(&keys, 1).ends_with("ON DUPLICATE KEY UPDATE `a` = `a`"));
        let log = target(Dialect::MySql, &["a"], &[]);
        assert!(insert(&log, 1).ends_with("VALUES (?)"));
    }

    #[test]
    fn few_shapes_are_prepared_and_none_has_too_many_placeholders() {
        assert_eq!((piece(500, 3, 500), piece(63, 3, 500), piece(200, 3, 500)), (500, 63, 128));
        assert_eq!(piece(100_000, 10, 100_000), 4_096);
        assert_eq!(piece(5, 70_000, 5), 1);
        let mut shapes = std::collections::BTreeSet::new();
        for n in 1..5_000 {
            let mut left = n;
            while left > 0 {
                let p = piece(left, 3, 5_000);
                shapes.insert(p);
                left -= p;
            }
        }
        assert!(shapes.len() <= 64 + 8, "{}", shapes.len());
    }
}
