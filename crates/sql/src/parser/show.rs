//! SHOW … from tokens. Resolves nothing.

use sqlparser::parser::ParserError;
use sqlparser::tokenizer::Token;

use super::ast::{Like, Path, Show, Statement};
use super::statement::StatementParser;

impl StatementParser<'_, '_> {
    /// After SHOW.
    pub(super) fn show(&mut self) -> Result<Statement, ParserError> {
        let what = self.parser.next_token();
        let name = match &what.token {
            Token::Word(w) => w.value.to_uppercase(),
            _ => String::new(),
        };
        Ok(Statement::Show(match name.as_str() {
            "TABLES" => Show::Tables { of: self.of()?, like: self.pattern()? },
            "VIEWS" => Show::Views { of: self.of()?, like: self.pattern()? },
            "FUNCTIONS" => {
                self.of()?;
                Show::Functions { user: false, like: self.pattern()? }
            }
            "USER" => {
                self.words(&["FUNCTIONS"])?;
                self.of()?;
                Show::Functions { user: true, like: self.pattern()? }
            }
            "CATALOGS" => Show::Catalogs { like: self.pattern()? },
            "DATABASES" => Show::Databases { of: self.of()?, like: self.pattern()? },
            "COLUMNS" => match self.of()? {
                Some(of) => Show::Columns { of, like: self.pattern()? },
                None => {
                    let found = self.parser.peek_token();
                    return self.parser.expected("FROM and the name of a table", found);
                }
            },
            "PARTITIONS" => {
                let of = self.path()?;
                let partition = if self.word("PARTITION") { self.partition_values()? } else { Vec::new() };
                Show::Partitions { of, partition }
            }
            "CURRENT" if self.word("CATALOG") => Show::CurrentCatalog,
            "CURRENT" => {
                self.words(&["DATABASE"])?;
                Show::CurrentDatabase
            }
            "FULL" => {
                self.words(&["MODULES"])?;
                Show::Modules
            }
            "MODULES" => Show::Modules,
            "JOBS" => Show::Jobs,
            "CREATE" => {
                if self.word("CATALOG") {
                    Show::CreateCatalog(self.name()?)
                } else {
                    let view = !self.word("TABLE");
                    if view {
                        self.words(&["VIEW"])?;
                    }
                    Show::Create { view, name: self.path()? }
                }
            }
            _ => {
                let known = "TABLES, VIEWS, COLUMNS, PARTITIONS, FUNCTIONS, CATALOGS, DATABASES, CURRENT or CREATE";
                return self.parser.expected(known, what);
            }
        }))
    }

    /// `FROM name` or `IN name`.
    fn of(&mut self) -> Result<Option<Path>, ParserError> {
        if self.word("FROM") || self.word("IN") { self.path().map(Some) } else { Ok(None) }
    }

    fn pattern(&mut self) -> Result<Option<Like>, ParserError> {
        let negated = self.word("NOT");
        let any_case = self.word("ILIKE");
        if !any_case && !self.word("LIKE") {
            if negated {
                let found = self.parser.peek_token();
                return self.parser.expected("LIKE or ILIKE", found);
            }
            return Ok(None);
        }
        let pattern = self.string()?;
        Ok(Some(Like { pattern, negated, any_case }))
    }
}
