//! Statements that change the catalog: CREATE, ALTER, DROP and USE. Plans no job but that of CREATE TABLE … AS.

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::error::Position;
use flott_core::{Error, Result};

use crate::binder::QueryBinder;
use crate::catalog::{Catalog, CatalogObject, Database, Home, ObjectPath, Table};
use crate::diag::{place, suggestion};
use crate::parser::ast::{
    AlterTable, AlterView, CreateFunction, CreateTable, CreateView, Drop, Insert, Name, ObjectKind, Options, Path,
    Statement,
};
use crate::session::{PlanServices, Planned, Session};
use crate::{alter, ddl, declaration, functions};

fn done(message: String) -> Result<Planned> {
    Ok(Planned::Done { message: Some(message), notices: Vec::new() })
}

fn option_map(options: &Options) -> BTreeMap<String, String> {
    options.iter().map(|(k, v, _)| (k.clone(), v.clone())).collect()
}

impl Session {
    /// Carries out a statement that changes the catalog.
    pub(crate) fn define(&mut self, statement: &Statement, services: &PlanServices) -> Result<Planned> {
        match statement {
            Statement::CreateView(create) => self.create_view(create),
            Statement::CreateDatabase { name, if_not_exists, comment, options } => {
                let database = Database { comment: comment.clone(), options: option_map(options) };
                self.create_database(name, *if_not_exists, database)
            }
            Statement::CreateCatalog { name, if_not_exists, options } => {
                self.create_catalog(name, *if_not_exists, options)
            }
            Statement::CreateFunction(create) => self.create_function(create, services),
            Statement::AlterTable { name, if_exists, action } => self.alter_table(name, *if_exists, action, services),
            Statement::AlterView { name, action } => self.alter_view(name, action),
            Statement::AlterDatabase { name, options } => {
                let home = self.catalog.database_path(name)?;
                let database = self.catalog.catalogs.get_mut(&home.catalog).and_then(|c| c.get_mut(&home.database));
                database.ok_or_else(|| Error::bug("a database vanished"))?.options.extend(option_map(options));
                done(format!("Database {}.{} has been altered.", home.catalog, home.database))
            }
            Statement::Drop(drop) => self.drop_object(drop),
            Statement::Use { catalog: true, name } => self.use_catalog(name),
            Statement::Use { catalog: false, name } => {
                self.catalog.home = self.catalog.database_path(name)?;
                Ok(Planned::Done { message: None, notices: Vec::new() })
            }
            _ => Err(Error::bug("no statement of the catalog")),
        }
    }

    /// Whether the name is free; taken names are an error unless IF NOT EXISTS is given.
    fn may_create(
        &self,
        path: &ObjectPath,
        temporary: bool,
        if_not_exists: bool,
        at: Option<Position>,
    ) -> Result<bool> {
        if !self.catalog.holds(path, temporary) {
            return Ok(true);
        }
        if if_not_exists {
            return Ok(false);
        }
        let error = Error::user("sql.exists", format!("there is a table or view `{}` already", path.name))
            .hint("DROP it first, choose another name, or say IF NOT EXISTS");
        Err(place(error, at))
    }

    /// CREATE TABLE; with AS also the job that fills it.
    pub(crate) fn create_table(&mut self, create: &CreateTable, services: &PlanServices) -> Result<Planned> {
        let (path, at) = (self.catalog.resolve(&create.name)?, create.name.position);
        let replaced = self.catalog.find(&path).filter(|_| create.replace).cloned();
        if replaced.is_none() && !self.may_create(&path, create.temporary, create.if_not_exists, at)? {
            return done(format!("Table {path} exists already."));
        }
        if replaced.as_ref().is_some_and(CatalogObject::is_view) {
            let error = Error::user("sql.exists", format!("`{}` is a view", path.name));
            return Err(place(error.hint("DROP VIEW first"), at));
        }
        if let Some(like) = &create.like {
            let base = match self.catalog.get(&like.table)? {
                CatalogObject::Table(t) => Arc::clone(t),
                CatalogObject::View(v) => {
                    let error = Error::user("sql.like", format!("`{}` behind LIKE is a view", v.name));
                    return Err(place(
                        error.hint("name a table, or write CREATE TABLE … AS SELECT"),
                        like.table.position,
                    ));
                }
            };
            let create = declaration::like(create, like, &base.declaration)?;
            return self.add_table(&create, path, services);
        }
        let Some(query) = &create.query else { return self.add_table(create, path, services) };
        let rel = QueryBinder::new(&self.catalog).query(query)?;
        let (declared, filled) = declaration::as_query(create, &rel.columns)?;
        self.add_table(&declared, path.clone(), services)?;
        let table = Path::new(vec![path.catalog.clone(), path.database.clone(), path.name.clone()], at);
        let insert = Insert { table, partition: Vec::new(), columns: Some(filled), query: query.clone() };
        let planned = self.insert_job(std::slice::from_ref(&insert), services);
        if planned.is_err() {
            self.catalog.remove(&path, false);
            if let Some(before) = replaced {
                self.catalog.insert(path, before, false);
            }
        }
        planned
    }

    fn add_table(&mut self, create: &CreateTable, path: ObjectPath, services: &PlanServices) -> Result<Planned> {
        let table = ddl::table(create, path.clone(), &services.registry)?;
        let message = format!("Table {path} has been created.");
        self.catalog.insert(path, CatalogObject::Table(Arc::new(table)), create.temporary);
        done(message)
    }

    fn create_view(&mut self, create: &CreateView) -> Result<Planned> {
        let path = self.catalog.resolve(&create.name)?;
        if !self.may_create(&path, create.temporary, create.if_not_exists, create.name.position)? {
            return done(format!("View {path} exists already."));
        }
        let view = ddl::view(create, path.clone(), &self.catalog)?;
        let message = format!("View {path} has been created.");
        self.catalog.insert(path, CatalogObject::View(view), create.temporary);
        done(message)
    }

    fn create_database(&mut self, path: &Path, if_not_exists: bool, database: Database) -> Result<Planned> {
        let home = self.catalog.database_name(path)?;
        let known = self.catalog.catalogs.get_mut(&home.catalog).ok_or_else(|| Error::bug("a catalog vanished"))?;
        let full = format!("{}.{}", home.catalog, home.database);
        if known.contains_key(&home.database) {
            if if_not_exists {
                return done(format!("Database {full} exists already."));
            }
            let error = Error::user("sql.exists", format!("there is a database `{}` already", home.database));
            return Err(place(error.hint("say IF NOT EXISTS, or choose another name"), path.position));
        }
        known.insert(home.database, database);
        done(format!("Database {full} has been created."))
    }

    fn create_catalog(&mut self, name: &Name, if_not_exists: bool, options: &Options) -> Result<Planned> {
        let options = option_map(options);
        match options.get("type").map(String::as_str) {
            Some("generic_in_memory") => {}
            other => {
                let message = match other {
                    Some(other) => format!("catalog `{}`: there is no type '{other}'", name.value),
                    None => format!("catalog `{}` has no option 'type'", name.value),
                };
                let error = Error::user("sql.catalog", message).hint("there is 'type' = 'generic_in_memory'");
                return Err(place(error, name.position));
            }
        }
        if self.catalog.catalogs.contains_key(&name.value) {
            if if_not_exists {
                return done(format!("Catalog {} exists already.", name.value));
            }
            let error = Error::user("sql.exists", format!("there is a catalog `{}` already", name.value));
            return Err(place(error.hint("say IF NOT EXISTS, or choose another name"), name.position));
        }
        let default = options.get("default-database").cloned().unwrap_or_else(|| "default".to_owned());
        let databases = BTreeMap::from([(default, Database::default())]);
        self.catalog.catalogs.insert(name.value.clone(), databases);
        done(format!("Catalog {} has been created.", name.value))
    }

    fn create_function(&mut self, create: &CreateFunction, services: &PlanServices) -> Result<Planned> {
        let name = create.name.parts.last().map_or("", String::as_str);
        let function = functions::of_class(create, &services.registry)?;
        // The same statement twice, as in scripts that are run again, changes nothing.
        if self.functions.contains(name) && self.functions.class(name) != Some(&create.class) {
            if create.if_not_exists {
                return done(format!("Function {name} exists already."));
            }
            let error = Error::user("sql.exists", format!("there is a function `{name}` already"));
            return Err(place(error.hint("DROP it first, or say IF NOT EXISTS"), create.name.position));
        }
        let kind = if create.temporary { "Temporary function" } else { "Function" };
        self.functions.insert(name, function, Some(create.class.clone()));
        done(format!("{kind} {name} has been created."))
    }

    fn use_catalog(&mut self, name: &Path) -> Result<Planned> {
        let wanted = name.to_string();
        let Some(databases) = self.catalog.catalogs.get(&wanted) else {
            return Err(self.catalog.no_catalog(&wanted, name.position));
        };
        let own = crate::catalog::DATABASE.to_owned();
        let database = if databases.contains_key(&own) { Some(own) } else { databases.keys().next().cloned() };
        let database = database.ok_or_else(|| {
            place(Error::user("sql.unknown-database", format!("catalog `{wanted}` has no database")), name.position)
        })?;
        self.catalog.home = Home { catalog: wanted, database };
        Ok(Planned::Done { message: None, notices: Vec::new() })
    }

    fn drop_object(&mut self, drop: &Drop) -> Result<Planned> {
        match drop.kind {
            ObjectKind::Table | ObjectKind::View => self.drop_table(drop),
            ObjectKind::Database => self.drop_database(drop),
            ObjectKind::Catalog => self.drop_catalog(drop),
            ObjectKind::Function => {
                let name = drop.name.parts.last().map_or("", String::as_str);
                if !self.functions.remove(name) && !drop.if_exists {
                    let error = Error::user("sql.function", format!("there is no function `{name}` to drop"));
                    let names = self.functions.names();
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    return Err(place(error.hint(suggestion(name, &names, 12)), drop.name.position));
                }
                done(format!("Function {name} has been dropped."))
            }
        }
    }

    fn drop_table(&mut self, drop: &Drop) -> Result<Planned> {
        let view = drop.kind == ObjectKind::View;
        let kind = if view { "View" } else { "Table" };
        let path = match self.catalog.resolve(&drop.name) {
            Err(_) if drop.if_exists => return done(format!("{kind} {} does not exist.", drop.name)),
            path => path?,
        };
        if drop.if_exists && !self.catalog.holds(&path, drop.temporary) {
            return done(format!("{kind} {path} does not exist."));
        }
        let refused = |message: String, hint: &str| {
            Err(place(Error::user("sql.drop", message).hint(hint.to_owned()), drop.name.position))
        };
        let name = &path.name;
        // Without TEMPORARY a temporary object of the name is in the way, as in Flink.
        if self.catalog.holds(&path, true) != drop.temporary {
            self.catalog.get(&drop.name)?;
            return match drop.temporary {
                true => refused(format!("`{name}` is not temporary"), "leave TEMPORARY out"),
                false => {
                    refused(format!("there is a temporary `{name}`"), "write DROP TEMPORARY, which it hides behind")
                }
            };
        }
        match self.catalog.get(&drop.name)? {
            object if object.is_view() == view => {}
            _ if view => return refused(format!("`{name}` is a table"), "write DROP TABLE"),
            _ => return refused(format!("`{name}` is a view"), "write DROP VIEW"),
        }
        self.catalog.remove(&path, drop.temporary);
        done(format!("{kind} {path} has been dropped."))
    }

    fn drop_database(&mut self, drop: &Drop) -> Result<Planned> {
        let home = match self.catalog.database_path(&drop.name) {
            Err(_) if drop.if_exists => return done(format!("Database {} does not exist.", drop.name)),
            home => home?,
        };
        let refused = |message: String, hint: &str| {
            Err(place(Error::user("sql.drop", message).hint(hint.to_owned()), drop.name.position))
        };
        if home == self.catalog.home {
            return refused(format!("`{}` is the current database", home.database), "USE another one first");
        }
        let inside: Vec<String> = self.catalog.objects_in(&home).into_iter().map(|(n, _)| n.to_owned()).collect();
        if !inside.is_empty() && !drop.cascade {
            let message = format!("database `{}` is not empty: it holds {}", home.database, inside.join(", "));
            return refused(message, "write CASCADE to drop them too");
        }
        for name in inside {
            let path = ObjectPath { catalog: home.catalog.clone(), database: home.database.clone(), name };
            self.catalog.remove(&path, true);
            self.catalog.remove(&path, false);
        }
        if let Some(databases) = self.catalog.catalogs.get_mut(&home.catalog) {
            databases.remove(&home.database);
        }
        done(format!("Database {}.{} has been dropped.", home.catalog, home.database))
    }

    fn drop_catalog(&mut self, drop: &Drop) -> Result<Planned> {
        let name = drop.name.to_string();
        let Some(databases) = self.catalog.catalogs.get(&name) else {
            if drop.if_exists {
                return done(format!("Catalog {name} does not exist."));
            }
            return Err(self.catalog.no_catalog(&name, drop.name.position));
        };
        if name == self.catalog.home.catalog {
            let error = Error::user("sql.drop", format!("`{name}` is the current catalog"));
            return Err(place(error.hint("USE CATALOG another one first"), drop.name.position));
        }
        for database in databases.keys().cloned().collect::<Vec<_>>() {
            let home = Home { catalog: name.clone(), database };
            let inside: Vec<String> = self.catalog.objects_in(&home).into_iter().map(|(n, _)| n.to_owned()).collect();
            for object in inside {
                let path = ObjectPath { catalog: name.clone(), database: home.database.clone(), name: object };
                self.catalog.remove(&path, true);
                self.catalog.remove(&path, false);
            }
        }
        self.catalog.catalogs.remove(&name);
        done(format!("Catalog {name} has been dropped."))
    }

    fn alter_table(
        &mut self,
        name: &Path,
        if_exists: bool,
        action: &AlterTable,
        services: &PlanServices,
    ) -> Result<Planned> {
        let path = self.catalog.resolve(name)?;
        let temporary = self.catalog.holds(&path, true);
        let table = match self.catalog.find(&path) {
            None if if_exists => return done(format!("Table {path} does not exist.")),
            None => return Err(self.catalog.get(name).err().unwrap_or_else(|| Error::bug("a table appeared"))),
            Some(CatalogObject::View(_)) => {
                let error = Error::user("sql.alter", format!("`{}` is a view", path.name));
                return Err(place(error.hint("write ALTER VIEW"), name.position));
            }
            Some(CatalogObject::Table(table)) => Arc::clone(table),
        };
        if temporary {
            let error = Error::user("sql.alter", format!("`{}` is a temporary table and cannot be altered", path.name));
            return Err(place(error.hint("DROP TEMPORARY TABLE and CREATE it anew"), name.position));
        }
        let changed = match action {
            AlterTable::Rename(to) => return self.rename(&path, CatalogObject::Table(table), to),
            AlterTable::AddPartitions { .. } | AlterTable::DropPartitions { .. } => partitions(&table, action, name)?,
            _ => {
                let mut declared = CreateTable { name: name.clone(), ..table.declaration.clone() };
                alter::change(&mut declared, action)?;
                let partitions = table.partitions.clone();
                Table { partitions, ..ddl::table(&declared, path.clone(), &services.registry)? }
            }
        };
        let message = format!("Table {path} has been altered.");
        self.catalog.insert(path, CatalogObject::Table(Arc::new(changed)), false);
        done(message)
    }

    /// Gives a table or view another name in its database.
    fn rename(&mut self, path: &ObjectPath, object: CatalogObject, to: &Path) -> Result<Planned> {
        let Some(last) = to.parts.last() else { return Err(Error::bug("an empty name")) };
        let full = match to.parts.len() {
            1 => ObjectPath { name: last.clone(), ..path.clone() },
            _ => self.catalog.resolve(to)?,
        };
        if full.catalog != path.catalog {
            let error = Error::user("sql.alter", "a table cannot move to another catalog");
            return Err(place(error.hint("CREATE TABLE … LIKE it there"), to.position));
        }
        self.may_create(&full, false, false, to.position)?;
        let message = format!("{path} has been renamed to {full}.");
        self.catalog.remove(path, false);
        let object = match object {
            CatalogObject::Table(t) => CatalogObject::Table(Arc::new(Table {
                name: full.name.clone(),
                path: full.clone(),
                ..Table::clone(&t)
            })),
            CatalogObject::View(v) => {
                let mut view = crate::catalog::View::clone(&v);
                (view.name, view.path) = (full.name.clone(), full.clone());
                CatalogObject::View(Arc::new(view))
            }
        };
        self.catalog.insert(full, object, false);
        done(message)
    }

    fn alter_view(&mut self, name: &Path, action: &AlterView) -> Result<Planned> {
        let path = self.catalog.resolve(name)?;
        let view = match self.catalog.get(name)? {
            CatalogObject::View(v) => Arc::clone(v),
            CatalogObject::Table(_) => {
                let error = Error::user("sql.alter", format!("`{}` is a table", path.name));
                return Err(place(error.hint("write ALTER TABLE"), name.position));
            }
        };
        match action {
            AlterView::Rename(_) if view.temporary => {
                let error = Error::user("sql.alter", format!("`{}` is a temporary view and keeps its name", path.name));
                Err(place(error.hint("DROP TEMPORARY VIEW and CREATE it anew"), name.position))
            }
            AlterView::Rename(to) => self.rename(&path, CatalogObject::View(view), to),
            AlterView::As { query, text } => {
                let create = CreateView {
                    name: name.clone(),
                    if_not_exists: false,
                    temporary: view.temporary,
                    comment: view.comment.clone(),
                    columns: Vec::new(),
                    query: query.clone(),
                    text: text.clone(),
                };
                let changed = ddl::view(&create, path.clone(), &self.catalog)?;
                let message = format!("View {path} has been altered.");
                self.catalog.insert(path, CatalogObject::View(changed), view.temporary);
                done(message)
            }
        }
    }
}

/// The table with partitions made known or forgotten.
fn partitions(table: &Table, action: &AlterTable, name: &Path) -> Result<Table> {
    let mut changed = table.clone();
    if table.partition_keys.is_empty() {
        let error = Error::user("sql.partition", format!("`{}` has no partitions", table.name));
        return Err(place(error.hint("declare it PARTITIONED BY (…)"), name.position));
    }
    let text = |p: &[(String, String)]| p.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("/");
    match action {
        AlterTable::AddPartitions { if_not_exists, partitions } => {
            for spec in partitions {
                let partition = declaration::partition(table, spec, true)?;
                if !changed.partitions.contains(&partition) {
                    changed.partitions.push(partition);
                } else if !if_not_exists {
                    let error = Error::user("sql.partition", format!("the partition {} is known", text(&partition)));
                    return Err(place(error.hint("say IF NOT EXISTS"), name.position));
                }
            }
        }
        AlterTable::DropPartitions { if_exists, partitions } => {
            for spec in partitions {
                let partition = declaration::partition(table, spec, true)?;
                if !changed.partitions.contains(&partition) && !if_exists {
                    let error = Error::user("sql.partition", format!("there is no partition {}", text(&partition)));
                    return Err(place(error.hint("say IF EXISTS"), name.position));
                }
                changed.partitions.retain(|p| *p != partition);
            }
        }
        _ => return Err(Error::bug("no change of partitions")),
    }
    Ok(changed)
}

impl Catalog {
    fn no_catalog(&self, name: &str, at: Option<Position>) -> Error {
        let names: Vec<&str> = self.catalogs.keys().map(String::as_str).collect();
        let error = Error::user("sql.unknown-database", format!("there is no catalog `{name}`"));
        place(error.hint(suggestion(name, &names, 12)), at)
    }

    /// Catalog and database that a path names; the catalog must exist.
    pub(crate) fn database_name(&self, path: &Path) -> Result<Home> {
        let home = match path.parts.as_slice() {
            [database] => Home { catalog: self.home.catalog.clone(), database: database.clone() },
            [catalog, database] => Home { catalog: catalog.clone(), database: database.clone() },
            _ => {
                let error = Error::user("sql.name", format!("`{path}` names no database"));
                return Err(place(error.hint("write database or catalog.database"), path.position));
            }
        };
        match self.catalogs.contains_key(&home.catalog) {
            true => Ok(home),
            false => Err(self.no_catalog(&home.catalog, path.position)),
        }
    }

    /// As [`Catalog::database_name`]; the database must exist too.
    pub(crate) fn database_path(&self, path: &Path) -> Result<Home> {
        let home = self.database_name(path)?;
        let known = self.catalogs.get(&home.catalog);
        if known.is_some_and(|k| k.contains_key(&home.database)) {
            return Ok(home);
        }
        let names: Vec<&str> = known.into_iter().flat_map(|k| k.keys().map(String::as_str)).collect();
        let message = format!("there is no database `{}` in `{}`", home.database, home.catalog);
        Err(place(
            Error::user("sql.unknown-database", message).hint(suggestion(&home.database, &names, 12)),
            path.position,
        ))
    }
}
