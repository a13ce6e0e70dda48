//! CREATE, ALTER, DROP and USE of everything but the parts of a table, from tokens. Resolves nothing.

use sqlparser::parser::ParserError;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::ast::{
    AlterTable, AlterView, ColumnPlace, Components, CreateFunction, CreateTable, CreateView, Drop, ObjectKind,
    PartitionSpec, Path, Statement,
};
use super::statement::StatementParser;
use crate::diag::position;

impl StatementParser<'_, '_> {
    /// After CREATE.
    pub(super) fn create(&mut self) -> Result<Statement, ParserError> {
        let at = self.parser.peek_token();
        let replace = self.word("OR");
        if replace {
            self.words(&["REPLACE"])?;
        }
        let temporary = self.word("TEMPORARY");
        let what = self.parser.next_token();
        let Token::Word(w) = &what.token else { return self.parser.expected("TABLE or VIEW", what) };
        let word = w.value.to_uppercase();
        if replace && word != "TABLE" {
            return self.fail("OR REPLACE is for CREATE TABLE … AS only: DROP first", &at);
        }
        match word.as_str() {
            "TABLE" => self.create_table(temporary, replace),
            "VIEW" => self.create_view(temporary),
            "DATABASE" => {
                let if_not_exists = self.if_not_exists()?;
                let name = self.path()?;
                let comment = if self.word("COMMENT") { Some(self.string()?) } else { None };
                let options = if self.word("WITH") { self.options()? } else { Vec::new() };
                Ok(Statement::CreateDatabase { name, if_not_exists, comment, options })
            }
            "CATALOG" => {
                let if_not_exists = self.if_not_exists()?;
                let name = self.name()?;
                if self.word("COMMENT") {
                    self.string()?;
                }
                let options = if self.word("WITH") { self.options()? } else { Vec::new() };
                Ok(Statement::CreateCatalog { name, if_not_exists, options })
            }
            "FUNCTION" => self.create_function(temporary),
            "SYSTEM" if temporary => {
                self.words(&["FUNCTION"])?;
                self.create_function(true)
            }
            other @ ("MODEL" | "MATERIALIZED" | "CONNECTION") => {
                self.fail(&format!("CREATE {other} is not supported yet"), &what)
            }
            _ => self.parser.expected("TABLE, VIEW, DATABASE, CATALOG or FUNCTION", what),
        }
    }

    fn create_view(&mut self, temporary: bool) -> Result<Statement, ParserError> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.path()?;
        let columns = if self.parser.peek_token_ref().token == Token::LParen { self.names()? } else { Vec::new() };
        let comment = if self.word("COMMENT") { Some(self.string()?) } else { None };
        self.words(&["AS"])?;
        let (query, text) = self.query_text()?;
        Ok(Statement::CreateView(CreateView { name, if_not_exists, temporary, comment, columns, query, text }))
    }

    fn query_text(&mut self) -> Result<(Box<sqlparser::ast::Query>, String), ParserError> {
        let start = self.parser.peek_token().span.start;
        let query = self.query()?;
        let text = self.source.slice(start, self.parser.get_current_token().span.end).to_owned();
        Ok((query, text))
    }

    fn create_function(&mut self, temporary: bool) -> Result<Statement, ParserError> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.path()?;
        self.words(&["AS"])?;
        let at = self.parser.peek_token();
        let class = self.string()?;
        if self.word("LANGUAGE") {
            let language = self.parser.peek_token();
            if !self.word("RUST") && !self.word("JAVA") && !self.word("SCALA") {
                return self.fail("functions are written in Rust: leave LANGUAGE out", &language);
            }
        }
        let using = self.parser.peek_token();
        if self.word("USING") {
            return self.fail(
                "USING takes archives of Java, which Flott does not run: register a Rust function of the same name",
                &using,
            );
        }
        let class_position = position(at.span);
        Ok(Statement::CreateFunction(CreateFunction { name, temporary, if_not_exists, class, class_position }))
    }

    /// After DROP.
    pub(super) fn drop_object(&mut self) -> Result<Statement, ParserError> {
        let temporary = self.word("TEMPORARY");
        if temporary {
            self.word("SYSTEM");
        }
        let what = self.parser.next_token();
        let kind = match &what.token {
            Token::Word(w) => match w.value.to_uppercase().as_str() {
                "TABLE" => ObjectKind::Table,
                "VIEW" => ObjectKind::View,
                "DATABASE" => ObjectKind::Database,
                "CATALOG" => ObjectKind::Catalog,
                "FUNCTION" => ObjectKind::Function,
                _ => return self.parser.expected("TABLE, VIEW, DATABASE, CATALOG or FUNCTION", what),
            },
            _ => return self.parser.expected("TABLE, VIEW, DATABASE, CATALOG or FUNCTION", what),
        };
        let if_exists = self.if_exists()?;
        let name = self.path()?;
        let mut cascade = false;
        if kind == ObjectKind::Database {
            cascade = self.word("CASCADE");
            let _ = cascade || self.word("RESTRICT");
        }
        Ok(Statement::Drop(Drop { kind, temporary, if_exists, cascade, name }))
    }

    pub(super) fn if_exists(&mut self) -> Result<bool, ParserError> {
        let found = self.word("IF");
        if found {
            self.words(&["EXISTS"])?;
        }
        Ok(found)
    }

    /// After USE.
    pub(super) fn use_name(&mut self, first: &TokenWithSpan) -> Result<Statement, ParserError> {
        let second = self.parser.peek_tokens::<2>()[1].clone();
        let name_follows = matches!(second, Token::Word(_));
        if name_follows && self.word("MODULES") {
            return self.fail("USE MODULES is not supported: there is the module core", first);
        }
        let catalog = name_follows && self.word("CATALOG");
        Ok(Statement::Use { catalog, name: self.path()? })
    }

    /// After ALTER.
    pub(super) fn alter(&mut self) -> Result<Statement, ParserError> {
        let what = self.parser.next_token();
        let word = match &what.token {
            Token::Word(w) => w.value.to_uppercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "TABLE" => {
                let if_exists = self.if_exists()?;
                let name = self.path()?;
                Ok(Statement::AlterTable { action: self.alter_table(&name)?, name, if_exists })
            }
            "VIEW" => {
                let name = self.path()?;
                let action = if self.word("RENAME") {
                    self.words(&["TO"])?;
                    AlterView::Rename(self.path()?)
                } else {
                    self.words(&["AS"])?;
                    let (query, text) = self.query_text()?;
                    AlterView::As { query, text }
                };
                Ok(Statement::AlterView { name, action })
            }
            "DATABASE" => {
                let name = self.path()?;
                self.words(&["SET"])?;
                Ok(Statement::AlterDatabase { name, options: self.options()? })
            }
            "FUNCTION" => self.fail("ALTER FUNCTION is not supported: DROP and CREATE it", &what),
            _ => self.parser.expected("TABLE, VIEW or DATABASE", what),
        }
    }

    fn alter_table(&mut self, name: &Path) -> Result<AlterTable, ParserError> {
        let what = self.parser.next_token();
        let word = match &what.token {
            Token::Word(w) => w.value.to_uppercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "RENAME" => {
                if self.word("TO") {
                    return Ok(AlterTable::Rename(self.path()?));
                }
                let from = self.name()?;
                self.words(&["TO"])?;
                Ok(AlterTable::RenameColumn(from, self.name()?))
            }
            "SET" => Ok(AlterTable::Set(self.options()?)),
            "RESET" => {
                self.parser.expect_token(&Token::LParen)?;
                let mut keys = Vec::new();
                loop {
                    let at = self.parser.peek_token();
                    keys.push((self.string()?, position(at.span)));
                    if !self.parser.consume_token(&Token::Comma) {
                        break;
                    }
                }
                self.parser.expect_token(&Token::RParen)?;
                Ok(AlterTable::Reset(keys))
            }
            "ADD" => {
                let if_not_exists = self.if_not_exists()?;
                if if_not_exists || self.partition_follows() {
                    return Ok(AlterTable::AddPartitions { if_not_exists, partitions: self.partitions()? });
                }
                Ok(AlterTable::Add(Box::new(self.components(name)?)))
            }
            "MODIFY" => Ok(AlterTable::Modify(Box::new(self.components(name)?))),
            "DROP" => self.alter_drop(),
            _ => self.parser.expected("ADD, MODIFY, DROP, RENAME, SET or RESET", what),
        }
    }

    fn alter_drop(&mut self) -> Result<AlterTable, ParserError> {
        let if_exists = self.if_exists()?;
        if if_exists || self.partition_follows() {
            return Ok(AlterTable::DropPartitions { if_exists, partitions: self.partitions()? });
        }
        let [_, second] = self.parser.peek_tokens::<2>();
        let at_end = matches!(second, Token::EOF | Token::SemiColon);
        if matches!(&second, Token::Word(w) if w.value.eq_ignore_ascii_case("KEY")) && self.word("PRIMARY") {
            self.words(&["KEY"])?;
            return Ok(AlterTable::DropPrimaryKey);
        }
        if !at_end && self.word("CONSTRAINT") {
            self.name()?;
            return Ok(AlterTable::DropPrimaryKey);
        }
        if at_end && self.word("WATERMARK") {
            return Ok(AlterTable::DropWatermark);
        }
        if self.parser.peek_token_ref().token == Token::LParen {
            return Ok(AlterTable::DropColumns(self.names()?));
        }
        self.word("COLUMN");
        Ok(AlterTable::DropColumns(vec![self.name()?]))
    }

    fn partition_follows(&mut self) -> bool {
        let [first, second] = self.parser.peek_tokens::<2>();
        second == Token::LParen && matches!(first, Token::Word(w) if w.value.eq_ignore_ascii_case("PARTITION"))
    }

    fn partitions(&mut self) -> Result<Vec<PartitionSpec>, ParserError> {
        let mut all = Vec::new();
        loop {
            self.words(&["PARTITION"])?;
            all.push(self.partition_values()?);
            if self.word("WITH") {
                self.options()?;
            }
            let _ = self.parser.consume_token(&Token::Comma);
            if !self.partition_follows() {
                return Ok(all);
            }
        }
    }

    /// `(a = 'x', b = 2)`
    pub(super) fn partition_values(&mut self) -> Result<PartitionSpec, ParserError> {
        self.parser.expect_token(&Token::LParen)?;
        let mut spec = Vec::new();
        loop {
            let name = self.name()?;
            self.parser.expect_token(&Token::Eq)?;
            let token = self.parser.next_token();
            let value = match token.token {
                Token::SingleQuotedString(s) => s,
                Token::Number(n, _) => n,
                _ => return self.parser.expected("a string or a number", token),
            };
            spec.push((name, value));
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.parser.expect_token(&Token::RParen)?;
        Ok(spec)
    }

    /// Columns, key and watermark of ADD and MODIFY: one, or several in parentheses.
    fn components(&mut self, name: &Path) -> Result<Components, ParserError> {
        let mut components = Components { table: CreateTable::empty(name.clone()), places: Vec::new() };
        let several = self.parser.consume_token(&Token::LParen);
        loop {
            self.element(&mut components.table)?;
            if components.places.len() < components.table.columns.len() {
                components.places.push(match () {
                    () if self.word("FIRST") => ColumnPlace::First,
                    () if self.word("AFTER") => ColumnPlace::After(self.name()?),
                    () => ColumnPlace::Unsaid,
                });
            }
            if !several || !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        if several {
            self.parser.expect_token(&Token::RParen)?;
        }
        Ok(components)
    }
}
