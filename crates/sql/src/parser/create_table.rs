//! CREATE TABLE from tokens: columns, watermark, keys, options. Resolves nothing.

use sqlparser::parser::ParserError;
use sqlparser::tokenizer::Token;

use super::ast::{
    ColumnDef, ColumnKind, CreateTable, LikeFeature, LikeStrategy, Options, Statement, TableLike, Watermark,
};
use super::statement::StatementParser;
use super::types::parse_type;
use crate::diag::position;

impl StatementParser<'_, '_> {
    /// After `CREATE [OR REPLACE] [TEMPORARY] TABLE`.
    pub(super) fn create_table(&mut self, temporary: bool, replace: bool) -> Result<Statement, ParserError> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.path()?;
        let mut table = CreateTable { if_not_exists, temporary, replace, ..CreateTable::empty(name) };
        if self.bare_names_follow() {
            table.order = self.names()?;
        } else if self.parser.consume_token(&Token::LParen) {
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
        if self.word("LIKE") {
            table.like = Some(self.like()?);
        }
        self.table_query(&mut table)?;
        Ok(Statement::CreateTable(table))
    }

    /// `AS SELECT …`, and what must or must not be there with it.
    fn table_query(&mut self, table: &mut CreateTable) -> Result<(), ParserError> {
        let token = self.parser.peek_token();
        if self.word("AS") {
            if table.like.is_some() {
                return self.fail("a table is either LIKE another or AS a query", &token);
            }
            if table.temporary {
                return self.fail("CREATE TABLE … AS does not make temporary tables: leave TEMPORARY out", &token);
            }
            if !table.partitioned_by.is_empty() && table.options.is_empty() {
                return self.fail("CREATE TABLE … AS needs the table's options: WITH ('connector' = …)", &token);
            }
            table.query = Some(self.query()?);
        } else if table.replace {
            return self.fail("CREATE OR REPLACE TABLE is for CREATE TABLE … AS only: DROP the table first", &token);
        } else if !table.order.is_empty() {
            return self.fail("columns without types are for CREATE TABLE … AS only: add their types", &token);
        }
        Ok(())
    }

    /// `(a, b)`: names without types.
    fn bare_names_follow(&mut self) -> bool {
        let [open, name, after] = self.parser.peek_tokens::<3>();
        open == Token::LParen && matches!(name, Token::Word(_)) && matches!(after, Token::Comma | Token::RParen)
    }

    fn like(&mut self) -> Result<TableLike, ParserError> {
        let table = self.path()?;
        let mut options = Vec::new();
        if self.parser.consume_token(&Token::LParen) {
            while !self.parser.consume_token(&Token::RParen) {
                let at = self.parser.peek_token();
                let strategy = match () {
                    () if self.word("INCLUDING") => LikeStrategy::Including,
                    () if self.word("EXCLUDING") => LikeStrategy::Excluding,
                    () if self.word("OVERWRITING") => LikeStrategy::Overwriting,
                    () => return self.parser.expected("INCLUDING, EXCLUDING or OVERWRITING", at),
                };
                let at = self.parser.peek_token();
                let feature = self.like_feature()?;
                use LikeFeature as F;
                if strategy == LikeStrategy::Overwriting
                    && !matches!(feature, F::Generated | F::Metadata | F::Options | F::Watermarks)
                {
                    return self.fail("OVERWRITING is for GENERATED, METADATA, OPTIONS and WATERMARKS", &at);
                }
                if options.iter().any(|(_, known)| *known == feature) {
                    return self.fail("each part is named once", &at);
                }
                options.push((strategy, feature));
            }
        }
        Ok(TableLike { table, options })
    }

    fn like_feature(&mut self) -> Result<LikeFeature, ParserError> {
        use LikeFeature as F;
        let known = [
            ("ALL", F::All),
            ("CONSTRAINTS", F::Constraints),
            ("DISTRIBUTION", F::Distribution),
            ("GENERATED", F::Generated),
            ("METADATA", F::Metadata),
            ("OPTIONS", F::Options),
            ("PARTITIONS", F::Partitions),
            ("WATERMARKS", F::Watermarks),
        ];
        match known.into_iter().find(|(word, _)| self.word(word)) {
            Some((_, feature)) => Ok(feature),
            None => {
                let found = self.parser.peek_token();
                let names = known.map(|(word, _)| word).join(", ");
                self.parser.expected(&format!("one of {names}"), found)
            }
        }
    }

    /// `('key' = 'value', …)`
    pub(super) fn options(&mut self) -> Result<Options, ParserError> {
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

    /// A column, key or watermark.
    pub(super) fn element(&mut self, table: &mut CreateTable) -> Result<(), ParserError> {
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
        let start = self.parser.peek_token().span.start;
        let expr = self.parser.parse_expr()?;
        let text = self.source.slice(start, self.parser.get_current_token().span.end).to_owned();
        if table.watermark.is_some() {
            return self.fail("a table has one WATERMARK at most", &token);
        }
        table.watermark = Some(Watermark { column: column.parts, expr, text, position: position(token.span) });
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
