//! Functions of the user in a session: by name, and found again while a statement is planned. Runs none.

use std::cell::RefCell;
use std::collections::BTreeMap;

use flott_core::error::Position;
use flott_core::function::Function;
use flott_core::registry::Registry;
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_expr::{bind_cast, is_implicit_cast};
use flott_plan::{Expr, ExprKind, UserFunction};

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

thread_local! {
    /// The session's functions while this thread plans a statement: expressions are bound in many places, none of which knows
    /// the session.
    static CURRENT: RefCell<Functions> = RefCell::default();
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

    /// Runs `f`, which finds these functions.
    pub(crate) fn during<T>(&self, f: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(self.clone());
        let result = f();
        CURRENT.replace(before);
        result
    }
}

/// The function of a name, while a statement is planned.
pub(crate) fn current(name: &str) -> Option<Function> {
    CURRENT.with_borrow(|f| f.0.get(&name.to_uppercase()).map(|n| n.function.clone()))
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
