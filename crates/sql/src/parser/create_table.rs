//! CREATE TABLE from tokens: columns, watermark, keys, options. Resolves nothing.

use sqlparser::parser::ParserError;
use sqlparser::tokenizer::Token;

use super::ast::{ColumnDef, ColumnKind, CreateTable, Statement};
use super::statement::StatementParser;
use super::types::parse_type;
use crate::diag::position;

impl StatementParser<'_, '_> {
    /// After `CREATE [TEMPORARY] TABLE`.
    pub(super) fn create_table(&mut self, temporary: bool) -> Result<Statement, ParserError> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.path()?;
        let mut table = CreateTable {
            name,
            if_not_exists,
            temporary,
            columns: Vec::new(),
            watermark: None,
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
            comment: None,
            options: Vec::new(),
        };
        if self.parser.consume_token(&Token::LParen) {
            loop {
                self.element(&mut table)?;
                if !self.parser.consume_token(&Token::Comma) {
                    break;
                }
            }
            let token = self.parser.next_token();
            if token.token != Token::RParen {
                return self.parser.expected("`,` or `)` after a column", token);
            }
        }
        if self.word("COMMENT") {
            table.comment = Some(self.string()?);
        }
        let token = self.parser.peek_token();
        if self.word("DISTRIBUTED") {
            return self.fail("DISTRIBUTED BY is not supported yet", &token);
        }
        if self.word("PARTITIONED") {
            self.words(&["BY"])?;
            table.partitioned_by = self.names()?;
        }
        if self.word("WITH") {
            table.options = self.options()?;
        }
        let token = self.parser.peek_token();
        if self.word("LIKE") || self.word("AS") {
            return self.fail("CREATE TABLE … LIKE and … AS SELECT are not supported yet: list the columns", &token);
        }
        Ok(Statement::CreateTable(table))
    }

    fn options(&mut self) -> Result<Vec<(String, String, Option<flott_core::error::Position>)>, ParserError> {
        self.parser.expect_token(&Token::LParen)?;
        let mut options = Vec::new();
        if self.parser.consume_token(&Token::RParen) {
            return Ok(options);
        }
        loop {
            let at = self.parser.peek_token();
            let key = self.string()?;
            self.parser.expect_token(&Token::Eq)?;
            options.push((key, self.string()?, position(at.span)));
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        let token = self.parser.next_token();
        if token.token != Token::RParen {
            return self.parser.expected("`,` or `)` after an option", token);
        }
        Ok(options)
    }

    fn element(&mut self, table: &mut CreateTable) -> Result<(), ParserError> {
        let token = self.parser.peek_token();
        let [_, second] = self.parser.peek_tokens::<2>();
        let follows = |word: &str| matches!(&second, Token::Word(w) if w.value.eq_ignore_ascii_case(word));
        let bare = matches!(&token.token, Token::Word(w) if w.quote_style.is_none());
        if bare && follows("FOR") && self.word("WATERMARK") {
            return self.watermark(table);
        }
        if bare && self.constraint_follows(&second) {
            if self.word("CONSTRAINT") {
                self.name()?;
            }
            let at = self.parser.peek_token();
            if self.word("UNIQUE") {
                return self.fail("UNIQUE is not supported, as in Flink: only PRIMARY KEY … NOT ENFORCED", &at);
            }
            self.words(&["PRIMARY", "KEY"])?;
            let names = self.names()?;
            self.not_enforced()?;
            if !table.primary_key.is_empty() {
                return self.fail("a table has one PRIMARY KEY at most", &at);
            }
            table.primary_key = names;
            return Ok(());
        }
        let column = self.column(table)?;
        table.columns.push(column);
        Ok(())
    }

    fn constraint_follows(&mut self, second: &Token) -> bool {
        let first = self.parser.peek_token();
        let is = |t: &Token, word: &str| matches!(t, Token::Word(w) if w.value.eq_ignore_ascii_case(word));
        is(&first.token, "CONSTRAINT")
            || (is(&first.token, "PRIMARY") && is(second, "KEY"))
            || (is(&first.token, "UNIQUE") && *second == Token::LParen)
    }

    fn not_enforced(&mut self) -> Result<(), ParserError> {
        let token = self.parser.peek_token();
        if self.word("NOT") {
            return self.words(&["ENFORCED"]);
        }
        self.fail("Flink does not enforce keys: write PRIMARY KEY … NOT ENFORCED", &token)
    }

    fn watermark(&mut self, table: &mut CreateTable) -> Result<(), ParserError> {
        self.words(&["FOR"])?;
        let token = self.parser.peek_token();
        let column = self.path()?;
        self.words(&["AS"])?;
        let expr = self.parser.parse_expr()?;
        if table.watermark.is_some() {
            return self.fail("a table has one WATERMARK at most", &token);
        }
        table.watermark = Some((column.parts, expr, position(token.span)));
        Ok(())
    }

    fn column(&mut self, table: &mut CreateTable) -> Result<ColumnDef, ParserError> {
        let name = self.name()?;
        if self.word("AS") {
            let start = self.parser.peek_token().span.start;
            let expr = Box::new(self.parser.parse_expr()?);
            let text = self.source.slice(start, self.parser.get_current_token().span.end).to_owned();
            let comment = if self.word("COMMENT") { Some(self.string()?) } else { None };
            return Ok(ColumnDef { name, kind: ColumnKind::Computed { expr, text }, comment });
        }
        let mut data_type = parse_type(&mut self.parser)?;
        if self.word("METADATA") {
            let key = if self.word("FROM") { Some(self.string()?) } else { None };
            let is_virtual = self.word("VIRTUAL");
            let comment = if self.word("COMMENT") { Some(self.string()?) } else { None };
            return Ok(ColumnDef { name, kind: ColumnKind::Metadata { data_type, key, is_virtual }, comment });
        }
        let token = self.parser.peek_token();
        if self.word("PRIMARY") {
            self.words(&["KEY"])?;
            self.not_enforced()?;
            if !table.primary_key.is_empty() {
                return self.fail("a table has one PRIMARY KEY at most", &token);
            }
            table.primary_key = vec![name.clone()];
            data_type.nullable = false;
        }
        let comment = if self.word("COMMENT") { Some(self.string()?) } else { None };
        Ok(ColumnDef { name, kind: ColumnKind::Physical(data_type), comment })
    }
}
