//! Statements from tokens; queries are left to sqlparser. Resolves nothing.

use sqlparser::ast::{Expr, Query};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::ast::{ExplainDetails, Insert, Name, Path, Show, Statement};
use super::script::Source;
use super::types::{expect_words, word_follows};
use crate::diag::position;

/// Parses one statement.
pub(crate) struct StatementParser<'p, 's> {
    pub(crate) parser: Parser<'p>,
    pub(crate) source: &'s Source<'s>,
}

/// Statements of Flink that Flott does not have, by their first word.
const UNSUPPORTED: &[&str] =
    &["ANALYZE", "CALL", "COMPILE", "DELETE", "LOAD", "MERGE", "TRUNCATE", "UNLOAD", "UPDATE", "STOP", "ADD", "REMOVE"];

impl<'p, 's> StatementParser<'p, 's> {
    /// A parser over the tokens of one statement.
    pub(crate) fn new(parser: Parser<'p>, source: &'s Source<'s>) -> Self {
        StatementParser { parser, source }
    }

    /// The statement; all tokens must be used up.
    pub(crate) fn parse(mut self) -> Result<Statement, ParserError> {
        let statement = self.statement()?;
        self.word(";");
        let rest = self.parser.peek_token();
        if rest.token != Token::EOF {
            return self.parser.expected("the end of the statement", rest);
        }
        Ok(statement)
    }

    pub(crate) fn word(&mut self, word: &str) -> bool {
        word_follows(&mut self.parser, word)
    }

    pub(crate) fn words(&mut self, words: &[&str]) -> Result<(), ParserError> {
        expect_words(&mut self.parser, words)
    }

    /// Fails at a token with a sentence of our own.
    pub(crate) fn fail<T>(&self, message: &str, at: &TokenWithSpan) -> Result<T, ParserError> {
        Err(ParserError::ParserError(format!("{message}{}", at.span.start)))
    }

    fn statement(&mut self) -> Result<Statement, ParserError> {
        let first = self.parser.peek_token();
        if first.token == Token::LParen {
            return Ok(Statement::Query(self.query()?));
        }
        let Token::Word(word) = &first.token else { return self.parser.expected("a statement", first) };
        let name = word.value.to_uppercase();
        if matches!(name.as_str(), "SELECT" | "WITH" | "VALUES") {
            return Ok(Statement::Query(self.query()?));
        }
        self.parser.next_token();
        match name.as_str() {
            "CREATE" => self.create(),
            "DROP" => self.drop_object(),
            "INSERT" => Ok(Statement::Insert(self.insert()?)),
            "EXECUTE" => self.execute(&first),
            "BEGIN" | "STATEMENT" => {
                if name == "BEGIN" {
                    self.words(&["STATEMENT"])?;
                }
                self.words(&["SET"])?;
                let _ = self.parser.consume_token(&Token::SemiColon);
                self.word("BEGIN");
                self.statement_set()
            }
            "SET" => self.set(),
            "RESET" => Ok(Statement::Reset(if self.at_end() { None } else { Some(self.key()?) })),
            "SHOW" => self.show(),
            "DESCRIBE" | "DESC" => {
                let named = matches!(self.parser.peek_tokens::<2>()[1], Token::Word(_));
                if named && self.word("DATABASE") {
                    return Ok(Statement::Show(Show::Database(self.path()?)));
                }
                let _ = named && self.word("TABLE");
                Ok(Statement::Describe(self.path()?))
            }
            "EXPLAIN" => self.explain(),
            "USE" => self.use_name(&first),
            "ALTER" => self.alter(),
            other if UNSUPPORTED.contains(&other) => self.fail(&format!("{other} is not supported yet"), &first),
            other => {
                let known = [
                    "SELECT", "CREATE", "ALTER", "DROP", "INSERT", "EXECUTE", "SET", "RESET", "SHOW", "DESCRIBE",
                    "EXPLAIN", "USE", "WITH", "VALUES",
                ];
                let near = crate::diag::nearest(other, known).map(|n| format!("; did you mean {n}?"));
                let near = near.unwrap_or_else(|| format!("; a statement begins with one of {}", known.join(", ")));
                self.fail(&format!("no statement begins with `{}`{near}", word.value), &first)
            }
        }
    }

    pub(super) fn at_end(&mut self) -> bool {
        matches!(self.parser.peek_token_ref().token, Token::EOF | Token::SemiColon)
    }

    pub(crate) fn query(&mut self) -> Result<Box<Query>, ParserError> {
        self.parser.parse_query()
    }

    pub(crate) fn path(&mut self) -> Result<Path, ParserError> {
        let first = self.name()?;
        let mut parts = vec![first.value];
        while self.parser.consume_token(&Token::Period) {
            parts.push(self.name()?.value);
        }
        Ok(Path::new(parts, first.position))
    }

    pub(crate) fn name(&mut self) -> Result<Name, ParserError> {
        let token = self.parser.next_token();
        match token.token {
            Token::Word(w) => Ok(Name { value: w.value, position: position(token.span) }),
            _ => self.parser.expected("a name", token),
        }
    }

    pub(crate) fn names(&mut self) -> Result<Vec<Name>, ParserError> {
        self.parser.expect_token(&Token::LParen)?;
        let mut names = vec![self.name()?];
        while self.parser.consume_token(&Token::Comma) {
            names.push(self.name()?);
        }
        self.parser.expect_token(&Token::RParen)?;
        Ok(names)
    }

    pub(crate) fn string(&mut self) -> Result<String, ParserError> {
        let token = self.parser.next_token();
        match token.token {
            Token::SingleQuotedString(s) | Token::UnicodeStringLiteral(s) => Ok(s),
            _ => self.parser.expected("a string in single quotes", token),
        }
    }

    pub(crate) fn if_not_exists(&mut self) -> Result<bool, ParserError> {
        let found = self.word("IF");
        if found {
            self.words(&["NOT", "EXISTS"])?;
        }
        Ok(found)
    }

    fn insert(&mut self) -> Result<Insert, ParserError> {
        let token = self.parser.peek_token();
        if self.word("OVERWRITE") {
            return self.fail("INSERT OVERWRITE is for batch jobs and not supported: use INSERT INTO", &token);
        }
        self.words(&["INTO"])?;
        self.word("TABLE");
        let table = self.path()?;
        let partition = self.insert_partition()?;
        let is_list = self.parser.peek_token_ref().token == Token::LParen
            && !matches!(&self.parser.peek_tokens::<2>()[1], Token::LParen)
            && !matches!(&self.parser.peek_tokens::<2>()[1], Token::Word(w) if w.quote_style.is_none()
                && matches!(w.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES));
        let columns = if is_list { Some(self.names()?) } else { None };
        let query = self.query()?;
        Ok(Insert { table, partition, columns, query })
    }

    /// `PARTITION (a = 'x', b)`: the columns with a value.
    fn insert_partition(&mut self) -> Result<Vec<(Name, Expr)>, ParserError> {
        let mut partition = Vec::new();
        if !self.word("PARTITION") {
            return Ok(partition);
        }
        self.parser.expect_token(&Token::LParen)?;
        loop {
            let name = self.name()?;
            if self.parser.consume_token(&Token::Eq) {
                partition.push((name, self.parser.parse_expr()?));
            }
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.parser.expect_token(&Token::RParen)?;
        Ok(partition)
    }

    fn execute(&mut self, first: &TokenWithSpan) -> Result<Statement, ParserError> {
        if self.word("INSERT") {
            return Ok(Statement::Insert(self.insert()?));
        }
        if !self.word("STATEMENT") {
            return self.fail("EXECUTE takes STATEMENT SET BEGIN … END, or an INSERT INTO", first);
        }
        self.words(&["SET", "BEGIN"])?;
        self.statement_set()
    }

    /// INSERT statements up to END.
    fn statement_set(&mut self) -> Result<Statement, ParserError> {
        let mut inserts = Vec::new();
        loop {
            while self.parser.consume_token(&Token::SemiColon) {}
            let token = self.parser.peek_token();
            if self.word("END") {
                if inserts.is_empty() {
                    return self.fail("the statement set is empty: add an INSERT INTO", &token);
                }
                return Ok(Statement::Inserts(inserts));
            }
            if !self.word("INSERT") {
                return self.parser.expected("INSERT INTO or END in the statement set", token);
            }
            inserts.push(self.insert()?);
            let token = self.parser.peek_token();
            if token.token != Token::SemiColon {
                return self.parser.expected("; after the INSERT of a statement set", token);
            }
        }
    }

    fn set(&mut self) -> Result<Statement, ParserError> {
        if self.at_end() {
            return Ok(Statement::Set(None));
        }
        let key = self.key()?;
        self.parser.expect_token(&Token::Eq)?;
        let token = self.parser.peek_token();
        let value = match &token.token {
            Token::SingleQuotedString(_) => self.string()?,
            _ => self.raw_rest()?,
        };
        Ok(Statement::Set(Some((key, value))))
    }

    /// An option key: quoted, or bare words with `.` and `-`.
    fn key(&mut self) -> Result<String, ParserError> {
        if matches!(self.parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
            return self.string();
        }
        let start = self.parser.peek_token();
        let mut end = start.span.start;
        while !matches!(self.parser.peek_token_ref().token, Token::Eq | Token::EOF | Token::SemiColon) {
            end = self.parser.next_token().span.end;
        }
        let key = self.source.slice(start.span.start, end).trim();
        if key.is_empty() {
            return self.parser.expected("an option key in single quotes", start);
        }
        Ok(key.to_owned())
    }

    fn raw_rest(&mut self) -> Result<String, ParserError> {
        let start = self.parser.peek_token();
        let mut end = start.span.start;
        while !self.at_end() {
            end = self.parser.next_token().span.end;
        }
        let value = self.source.slice(start.span.start, end).trim();
        if value.is_empty() {
            return self.parser.expected("a value in single quotes", start);
        }
        Ok(value.to_owned())
    }

    fn explain(&mut self) -> Result<Statement, ParserError> {
        let mut details = ExplainDetails::default();
        if self.word("PLAN") {
            self.words(&["FOR"])?;
        } else {
            loop {
                match () {
                    () if self.word("CHANGELOG_MODE") => details.changelog_mode = true,
                    () if self.word("ESTIMATED_COST") => details.estimated_cost = true,
                    () if self.word("PLAN_ADVICE") => details.plan_advice = true,
                    () if self.word("JSON_EXECUTION_PLAN") => details.json_execution_plan = true,
                    () => break,
                }
                let _ = self.parser.consume_token(&Token::Comma);
            }
        }
        let token = self.parser.peek_token();
        let statement = self.statement()?;
        match statement {
            Statement::Query(_) | Statement::Insert(_) | Statement::Inserts(_) => {
                Ok(Statement::Explain { details, statement: Box::new(statement) })
            }
            _ => self.fail("EXPLAIN takes a SELECT, an INSERT INTO or a statement set", &token),
        }
    }
}
