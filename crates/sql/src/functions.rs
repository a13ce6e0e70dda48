//! Functions of the user in a session: by name, and found again while a statement is planned; calls of table functions with their checks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use flott_core::error::Position;
use flott_core::function::{Function, TableFunction, call_user};
use flott_core::registry::Registry;
use flott_core::table_function::{BoundTableFunction, TableRows};
use flott_core::types::{Column, DataType, TypeKind};
use flott_core::{Error, Result};
use flott_expr::{bind_cast, is_implicit_cast};
use flott_plan::{Expr, ExprKind, Literal, UserAggregate, UserFunction};

use crate::diag::{place, suggestion};
use crate::parser::ast::CreateFunction;

/// Functions by name; names have no case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Functions(BTreeMap<String, Named>);

#[derive(Clone, Debug)]
struct Named {
    name: String,
    function: Function,
    /// The text behind AS.
    class: Option<String>,
}

/// What of a session expressions are bound with.
#[derive(Clone, Default)]
pub(crate) struct Context {
    /// The functions of the user.
    pub(crate) functions: Functions,
    /// The current database.
    pub(crate) database: String,
}

thread_local! {
    /// The session's, while this thread plans a statement: expressions are bound in many places, none of which knows the session.
    static CURRENT: RefCell<Context> = RefCell::default();
}

impl Context {
    /// Runs `f`, which binds with this.
    pub(crate) fn during<T>(self, f: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(self);
        let result = f();
        CURRENT.replace(before);
        result
    }
}

/// `CURRENT_DATABASE()`, while a statement is planned.
pub(crate) fn current_database() -> Expr {
    let name = CURRENT.with_borrow(|c| c.database.clone());
    Expr::literal(Literal::String(name), TypeKind::STRING.not_null())
}

impl Functions {
    /// Makes a function known; whether the name was free.
    pub(crate) fn insert(&mut self, name: &str, function: Function, class: Option<String>) -> bool {
        let named = Named { name: name.to_owned(), function, class };
        self.0.insert(name.to_uppercase(), named).is_none()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(&name.to_uppercase())
    }

    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.0.remove(&name.to_uppercase()).is_some()
    }

    /// Names as they were given, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.values().map(|n| n.name.clone()).collect()
    }

    /// What `CREATE FUNCTION` made the function of.
    pub(crate) fn class(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_uppercase())?.class.as_deref()
    }
}

/// The function of a name, while a statement is planned.
pub(crate) fn current(name: &str) -> Option<Function> {
    CURRENT.with_borrow(|c| c.functions.0.get(&name.to_uppercase()).map(|n| n.function.clone()))
}

/// The Rust function that stands for the class of a CREATE FUNCTION.
pub(crate) fn of_class(create: &CreateFunction, registry: &Registry) -> Result<Function> {
    let simple = create.class.rsplit(['.', ':']).next().unwrap_or(&create.class);
    let found = registry.function(&create.class).or_else(|| registry.function(simple));
    found.cloned().ok_or_else(|| {
        let names = registry.function_names();
        let error = Error::user("sql.function-class", format!("there is no Rust function for '{}'", create.class))
            .detail("Flott runs no Java: functions are written in Rust and registered by name")
            .hint(format!(
                "register it in a program with `create_temporary_function(\"{}\", …)` of the crate flott; {}",
                create.name,
                suggestion(&create.class, &names, 8)
            ));
        place(error, create.class_position)
    })
}

/// Binds a call of a scalar function of the user, with the casts that SQL makes by itself.
pub(crate) fn bind_scalar(name: &str, args: &[Expr], at: Option<Position>) -> Option<Result<Expr>> {
    match current(name)? {
        Function::Scalar(function) => {
            let types: Vec<DataType> = args.iter().map(|a| a.data_type.clone()).collect();
            let bound = function.bind(&types).map_err(|e| e.context(format_args!("function `{name}`")));
            Some(bound.and_then(|signature| {
                let args = cast_arguments(name, args, &signature.args)?;
                let function = UserFunction { name: name.to_owned(), function, position: at };
                Ok(Expr { kind: ExprKind::User { function, args }, data_type: signature.result })
            }))
        }
        Function::Table(_) => {
            let error = Error::user("sql.function", format!("{name} is a table function and gives rows, not a value"));
            Some(Err(error.hint(format!("write FROM t, LATERAL TABLE({name}(…)) AS x"))))
        }
        Function::Aggregate(_) => {
            let error = Error::user("sql.function", format!("{name} is an aggregate function"));
            Some(Err(error.hint("use it in a SELECT list or HAVING, beside GROUP BY or with OVER")))
        }
    }
}

/// Whether the name is that of an aggregate of the user.
pub(crate) fn is_aggregate(name: &str) -> bool {
    matches!(current(name), Some(Function::Aggregate(_)))
}

/// Binds a call of an aggregate of the user: its arguments as it takes them, and its type.
pub(crate) fn bind_aggregate(
    name: &str,
    args: &[Expr],
    at: Option<Position>,
) -> Result<(UserAggregate, Vec<Expr>, DataType)> {
    let Some(Function::Aggregate(function)) = current(name) else {
        return Err(Error::bug(format!("{name} is no aggregate of the user")));
    };
    let types: Vec<DataType> = args.iter().map(|a| a.data_type.clone()).collect();
    let bound = function.bind(&types).map_err(|e| e.context(format_args!("function `{name}`")));
    let signature = bound.map_err(|e| place(e, at))?;
    let args = cast_arguments(name, args, &signature.args).map_err(|e| place(e, at))?;
    Ok((UserAggregate { name: name.to_owned(), function, position: at }, args, signature.result))
}

/// Binds a call of a table function of the user: its columns, and the arguments cast to what it takes.
pub(crate) fn bind_table(
    name: &str,
    args: &mut Vec<Expr>,
    at: Option<Position>,
) -> Option<Result<(Vec<Column>, Arc<dyn BoundTableFunction>)>> {
    let function = match current(name)? {
        Function::Table(function) => function,
        Function::Scalar(_) => {
            let error = Error::user("sql.function", format!("{name} is a scalar function and gives a value, not rows"));
            return Some(Err(error.hint(format!("write {name}(…) in SELECT or WHERE"))));
        }
        Function::Aggregate(_) => {
            let error =
                Error::user("sql.function", format!("{name} is an aggregate function and gives a value, not rows"));
            return Some(Err(error.hint(format!("write SELECT {name}(…) FROM t GROUP BY k"))));
        }
    };
    let types: Vec<DataType> = args.iter().map(|a| a.data_type.clone()).collect();
    let bound = function.bind(&types).map_err(|e| e.context(format_args!("function `{name}`")));
    Some(bound.and_then(|signature| {
        *args = cast_arguments(name, args, &signature.args)?;
        let columns = signature.columns.clone();
        let call = UserTable { name: name.to_owned(), function, columns: signature.columns, position: at };
        let call: Arc<dyn BoundTableFunction> = Arc::new(call);
        Ok((columns, call))
    }))
}

/// A call of a table function of the user: what it gives is checked.
struct UserTable {
    name: String,
    function: Arc<dyn TableFunction>,
    columns: Vec<Column>,
    position: Option<Position>,
}

impl std::fmt::Debug for UserTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserTable").field("name", &self.name).finish_non_exhaustive()
    }
}

impl BoundTableFunction for UserTable {
    fn call(&self, args: &[ArrayRef], rows: usize) -> Result<TableRows> {
        call_user(&self.name, self.position, || {
            let made = self.function.evaluate(args, rows)?;
            let owners = made.rows.values();
            let in_order = made.rows.null_count() == 0 && owners.is_sorted();
            if !in_order || owners.last().is_some_and(|last| *last as usize >= rows) {
                let message =
                    format!("it was called for {rows} rows, and its rows do not belong to these in their order");
                return Err(Error::user("function.result", message));
            }
            let fits = |(array, column): (&ArrayRef, &Column)| {
                *array.data_type() == column.data_type.kind.to_arrow() && array.len() == made.rows.len()
            };
            if made.columns.len() != self.columns.len() || !made.columns.iter().zip(&self.columns).all(fits) {
                let wanted: Vec<String> = self.columns.iter().map(|c| c.data_type.to_string()).collect();
                let found: Vec<String> =
                    made.columns.iter().map(|a| format!("{} × {:?}", a.len(), a.data_type())).collect();
                let message = format!(
                    "it promised {} rows of ({}) and gave ({})",
                    made.rows.len(),
                    wanted.join(", "),
                    found.join(", ")
                );
                return Err(Error::user("function.result", message));
            }
            Ok(made)
        })
    }
}

/// The arguments as the types a function of the user takes.
pub(crate) fn cast_arguments(name: &str, args: &[Expr], wanted: &[DataType]) -> Result<Vec<Expr>> {
    if args.len() != wanted.len() {
        let message = format!("function `{name}` takes {} arguments, {} are given", wanted.len(), args.len());
        return Err(Error::user("sql.function", message));
    }
    let cast = |(i, (arg, to)): (usize, (&Expr, &DataType))| {
        if !is_implicit_cast(&arg.data_type.kind, &to.kind) {
            let (found, message) = (&arg.data_type.kind, format!("function `{name}`: argument {} is of type", i + 1));
            return Err(Error::user("sql.function", format!("{message} {found}, and {} is needed", to.kind))
                .hint(format!("CAST it to {}", to.kind)));
        }
        bind_cast(arg.clone(), DataType { kind: to.kind.clone(), nullable: arg.data_type.nullable }, false)
    };
    args.iter().zip(wanted).enumerate().map(cast).collect()
}
