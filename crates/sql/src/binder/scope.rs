//! The columns a name may stand for. Resolves names, nothing else.

use flott_core::types::TypeKind;
use flott_core::{Error, Result};
use flott_plan::{Expr, ExprKind};
use sqlparser::ast::Ident;

use crate::diag::{place, position, suggestion};
use crate::planner::rel::{HintedTtl, Rel, RelColumn};

/// Columns of the outer query, within a subquery: from this number on.
pub(crate) const OUTER: usize = 1 << 40;

/// Columns with their qualifiers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) columns: Vec<RelColumn>,
    pub(crate) qualifiers: Vec<Option<String>>,
    /// The columns of `*`, in order, which are also those that need no qualifier; `None`: all.
    pub(crate) star: Option<Vec<usize>>,
    /// Subqueries that have become columns: which subquery, which column.
    pub(crate) subqueries: Vec<(usize, usize)>,
    /// The scope of the query around this one, where its names may be used.
    pub(crate) outer: Option<Box<Scope>>,
    /// What a STATE_TTL hint says of the only table of a FROM.
    pub(crate) ttl: HintedTtl,
}

impl Scope {
    /// The columns of a relation under one qualifier.
    pub(crate) fn of(rel: &Rel, qualifier: Option<&str>) -> Self {
        Self::columns(rel.columns.clone(), qualifier)
    }

    /// Columns under one qualifier.
    pub(crate) fn columns(columns: Vec<RelColumn>, qualifier: Option<&str>) -> Self {
        let qualifiers = vec![qualifier.map(str::to_owned); columns.len()];
        Scope { columns, qualifiers, ..Scope::default() }
    }

    /// Left columns, then right columns.
    pub(crate) fn join(mut self, right: Scope) -> Self {
        let width = self.len();
        if self.star.is_some() || right.star.is_some() {
            let shifted = right.stars().into_iter().map(|i| i + width);
            self.star = Some(self.stars().into_iter().chain(shifted).collect());
        }
        self.columns.extend(right.columns);
        self.qualifiers.extend(right.qualifiers);
        self
    }

    /// Takes over which columns of the relation are still attributes.
    pub(crate) fn take_attributes(&mut self, rel: &Rel) {
        for (c, from) in self.columns.iter_mut().zip(&rel.columns) {
            (c.time, c.window, c.attached) = (from.time, from.window, from.attached);
        }
    }

    /// Number of columns.
    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    /// Numbers of the columns of `*`.
    pub(crate) fn stars(&self) -> Vec<usize> {
        self.star.clone().unwrap_or_else(|| (0..self.len()).collect())
    }

    /// Adds a column that stands for a subquery and has no name.
    pub(crate) fn add_hidden(&mut self, subquery: usize, at: usize, column: &RelColumn) {
        self.star = Some(self.stars());
        self.columns.push(column.clone());
        self.qualifiers.push(None);
        self.subqueries.push((subquery, at));
    }

    /// Numbers of the columns of one qualifier.
    pub(crate) fn qualified(&self, qualifier: &str) -> Vec<usize> {
        (0..self.len()).filter(|&i| self.qualifiers[i].as_deref() == Some(qualifier)).collect()
    }

    /// Column `i` as an expression.
    pub(crate) fn column(&self, i: usize) -> Expr {
        Expr::column(i, self.columns[i].data_type.clone())
    }

    /// `a`, `t.a`, `t.a.field`, `a.field`: a qualifier goes before a column of the same name.
    pub(crate) fn resolve(&self, parts: &[Ident]) -> Result<Expr> {
        let own = self.resolve_own(parts);
        match (&own, &self.outer) {
            (Err(e), Some(outer)) if e.code() == "sql.unknown-column" => match outer.resolve_own(parts) {
                Ok(found) => Ok(found.renumber(&|i| i + OUTER)),
                Err(_) => own,
            },
            _ => own,
        }
    }

    fn resolve_own(&self, parts: &[Ident]) -> Result<Expr> {
        let Some(first) = parts.first() else { return Err(Error::bug("an empty name")) };
        if let [_, second, rest @ ..] = parts {
            let of = self.qualified(&first.value);
            if !of.is_empty() {
                let i = self.find(second, &of, Some(&first.value))?;
                return fields(self.column(i), rest);
            }
        }
        let all: Vec<usize> = self.stars();
        if parts.len() > 1 && !self.columns.iter().any(|c| c.name == first.value) {
            let qualifiers: Vec<&str> = self.qualifiers.iter().flatten().map(String::as_str).collect();
            let mut names: Vec<&str> = qualifiers;
            names.dedup();
            let error = Error::user(
                "sql.unknown-column",
                format!("there is no table or column `{}` here", first.value),
            )
            .hint(match names.is_empty() {
                true => format!(
                    "names of tables inside a subquery end with it: give the subquery an alias, or write `{}` alone",
                    parts[1].value
                ),
                false => suggestion(&first.value, &names, 12),
            });
            return Err(place(error, position(first.span)));
        }
        let i = self.find(first, &all, None)?;
        fields(self.column(i), &parts[1..])
    }

    fn find(&self, name: &Ident, among: &[usize], qualifier: Option<&str>) -> Result<usize> {
        let mut found = among.iter().copied().filter(|&i| self.columns[i].name == name.value);
        let (first, second) = (found.next(), found.next());
        match (first, second) {
            (Some(i), None) => Ok(i),
            (Some(_), Some(_)) => {
                let tables: Vec<&str> = among
                    .iter()
                    .filter(|&&i| self.columns[i].name == name.value)
                    .filter_map(|&i| self.qualifiers[i].as_deref())
                    .collect();
                let error = Error::user("sql.ambiguous-column", format!("column `{}` is ambiguous", name.value))
                    .hint(format!("it is in {}: write one of them before the name", tables.join(" and in ")));
                Err(place(error, position(name.span)))
            }
            (None, _) => {
                let names: Vec<&str> = among.iter().map(|&i| self.columns[i].name.as_str()).collect();
                let of = qualifier.map(|q| format!(" in `{q}`")).unwrap_or_default();
                let error = Error::user("sql.unknown-column", format!("there is no column `{}`{of}", name.value))
                    .hint(suggestion(&name.value, &names, 16));
                Err(place(error, position(name.span)))
            }
        }
    }
}

/// Fields of a ROW, one after the other.
pub(crate) fn fields(mut expr: Expr, path: &[Ident]) -> Result<Expr> {
    for name in path {
        let TypeKind::Row(row) = &expr.data_type.kind else {
            let error = Error::user(
                "sql.unknown-column",
                format!("`{}` is taken from a value of type {}, which has no fields", name.value, expr.data_type.kind),
            );
            return Err(place(error, position(name.span)));
        };
        let Some(i) = row.iter().position(|(n, _)| *n == name.value) else {
            let names: Vec<&str> = row.iter().map(|(n, _)| n.as_str()).collect();
            let error = Error::user("sql.unknown-column", format!("the row has no field `{}`", name.value))
                .hint(suggestion(&name.value, &names, 16));
            return Err(place(error, position(name.span)));
        };
        let mut data_type = row[i].1.clone();
        data_type.nullable |= expr.data_type.nullable;
        expr = Expr { kind: ExprKind::Field(Box::new(expr), i), data_type };
    }
    Ok(expr)
}
