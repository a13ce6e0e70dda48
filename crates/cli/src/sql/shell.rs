//! The shell: `flott sql` on a terminal. Reads statements with a line editor, runs one after the other; an error or Ctrl-C ends the
//! statement, never the shell.

use std::io::Write;
use std::path::PathBuf;

use flott_core::error::{Error, Result};
use flott_core::time::SystemClock;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{CompletionType, Config, Editor};

use super::editing::Editing;
use super::history::{ENTRIES_MAX, History};
use super::live::plural;
use super::{Runner, interrupt};
use crate::{output, terminal};

const PROMPT: &str = "flott> ";
/// How often Ctrl-C must be pressed during one statement to end the shell.
const PATIENCE: u32 = 3;
const HELP: &str = "\
Statements end with a semicolon and may have several lines: SELECT, INSERT INTO, CREATE, DROP, ALTER, USE, SHOW, DESCRIBE, EXPLAIN,
SET, RESET. A query is shown as a table that changes in place until it ends, or until q or Ctrl-C; an INSERT INTO runs beside the
shell. Tab completes keywords, tables, columns, functions and, in SET ', options. Arrows and Ctrl-R go through the history.

  \\help, \\?          this text; also help;
  \\quit, \\q          leave; also quit;  exit;  Ctrl-D
  \\clear             clear the screen; also clear;
  \\timing [on|off]   show how long each statement takes
  \\d [NAME]          the tables and views, or the columns of one
  \\i FILE            run a script
  \\jobs              the jobs that run beside the shell; also SHOW JOBS;
  \\stop ID           cancel one of them, or all with \\stop all; also STOP JOB 'ID';

  SET 'sql-client.execution.result-mode' = 'table';       the result as it stands now
  SET 'sql-client.execution.result-mode' = 'changelog';   its changes, a line each
  SET 'sql-client.execution.result-mode' = 'tableau';     its changes, as a table that grows
  SET 'sql-client.execution.max-table-result.rows' = '…'; rows that a table keeps: the newest
  SET 'table.dml-sync' = 'true';                          wait for each INSERT INTO";

type LineEditor = Editor<Editing, MemHistory>;

/// What a line is to the shell.
#[derive(Debug, PartialEq, Eq)]
enum Input<'a> {
    Quit,
    Help,
    Clear,
    /// On, off, or the other.
    Timing(Option<bool>),
    Jobs,
    Stop(&'a str),
    File(&'a str),
    Sql(String),
    Unknown(&'a str),
}

/// Runs until the user leaves.
pub fn run(runner: &mut Runner, history: Option<PathBuf>) -> Result<()> {
    let history = History::open(history);
    let mut editor = editor()?;
    match history.load() {
        Ok(entries) => entries.into_iter().for_each(|e| drop(editor.add_history_entry(e))),
        Err(e) => eprintln!("notice: the history cannot be read: {e}"),
    }
    interrupt::install(PATIENCE)?;
    println!("Flott {} · statements end with ; · \\help explains, \\quit leaves", env!("CARGO_PKG_VERSION"));
    let (mut timing, mut keeps, mut warned) = (false, true, false);
    loop {
        let typed = next(&mut editor, runner)?;
        if let Some(text) = &typed {
            // The editor remembers what was typed; the file gets no secrets.
            let _ = editor.add_history_entry(text.as_str());
            if let Err(e) = history.add(text)
                && std::mem::replace(&mut keeps, false)
            {
                eprintln!("notice: the history cannot be kept: {e}");
            }
        }
        let was_warned = std::mem::replace(&mut warned, false);
        match typed.as_deref().map_or(Input::Quit, input) {
            Input::Quit if runner.background.is_empty() || was_warned => break,
            Input::Quit => {
                warned = true;
                let n = runner.background.len();
                println!(
                    "{n} job{} run{} beside the shell and would end with it: once more to leave",
                    plural(n),
                    if n == 1 { "s" } else { "" }
                );
            }
            Input::Help => println!("{HELP}"),
            Input::Clear => clear(),
            Input::Timing(on) => {
                timing = on.unwrap_or(!timing);
                println!("timing is {}", if timing { "on" } else { "off" });
            }
            Input::Jobs => runner.show_jobs(),
            Input::Stop(id) => {
                if let Err(why) = runner.stop_jobs(id) {
                    println!("{why}");
                }
            }
            Input::File(path) => match super::read(path.as_ref()) {
                Ok(script) => statement(runner, &script, timing),
                Err(e) => output::error(&e, None),
            },
            Input::Sql(sql) => statement(runner, &sql, timing),
            Input::Unknown(command) => println!("there is no command {command}; \\help lists them"),
        }
    }
    runner.suspend_background();
    Ok(())
}

fn clear() {
    let mut stdout = std::io::stdout();
    if terminal::draws(&stdout) {
        print!("\x1b[H\x1b[2J");
        // The editor writes past the buffer; a closed terminal shows at the next line that is read.
        let _ = stdout.flush();
    }
}

fn failed(e: ReadlineError) -> Error {
    Error::user("cli.terminal", format!("the terminal cannot be used: {e}")).hint("run with -f FILE or -e STATEMENT")
}

fn editor() -> Result<LineEditor> {
    let config = Config::builder().completion_type(CompletionType::List).max_history_size(ENTRIES_MAX);
    let config = config.map_err(failed)?.completion_show_all_if_ambiguous(true).build();
    let history = MemHistory::with_config(&config);
    let mut editor = Editor::with_history(config, history).map_err(failed)?;
    let colours = terminal::colours(&std::io::stdout());
    editor.set_helper(Some(Editing { colours, ..Editing::default() }));
    Ok(editor)
}

/// The next input that is not empty; nothing at the end.
fn next(editor: &mut LineEditor, runner: &mut Runner) -> Result<Option<String>> {
    loop {
        runner.report_ended();
        if let Some(helper) = editor.helper_mut() {
            helper.names = runner.names();
        }
        match editor.readline(PROMPT) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => return Ok(Some(text)),
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(None),
            Err(e) => return Err(failed(e)),
        }
    }
}

fn input(text: &str) -> Input<'_> {
    let line = text.trim();
    let bare = line.trim_end_matches(';').trim_end();
    let words: Vec<&str> = bare.split_whitespace().collect();
    let lower: Vec<String> = words.iter().map(|w| w.to_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    match lower.as_slice() {
        ["\\q" | "\\quit" | "\\exit" | "quit" | "exit"] => Input::Quit,
        ["\\?" | "\\h" | "\\help" | "help"] => Input::Help,
        ["\\clear" | "clear"] => Input::Clear,
        ["\\timing"] => Input::Timing(None),
        ["\\timing", "on"] => Input::Timing(Some(true)),
        ["\\timing", "off"] => Input::Timing(Some(false)),
        ["\\jobs"] | ["show", "jobs"] => Input::Jobs,
        ["\\stop", _] => Input::Stop(words[1]),
        ["stop", "job", id] if id.starts_with('\'') => Input::Stop(words[2].trim_matches('\'')),
        ["\\d" | "\\dt"] => Input::Sql("SHOW TABLES".to_owned()),
        ["\\d", _] => Input::Sql(format!("DESCRIBE {}", words[1])),
        ["\\i", _] => Input::File(words[1]),
        [command, ..] if command.starts_with('\\') => Input::Unknown(line),
        _ => Input::Sql(text.to_owned()),
    }
}

fn statement(runner: &mut Runner, text: &str, timing: bool) {
    let clock = SystemClock::shared();
    let started_ns = clock.now_nanos();
    interrupt::forget();
    match runner.script(text) {
        // Whoever was ended has said so.
        Err(e) if e.code() == interrupt::CODE => {}
        Err(e) => output::error(&e, Some(text)),
        Ok(()) => {}
    }
    if timing {
        println!("time: {:.3} s", clock.now_nanos().saturating_sub(started_ns) as f64 / 1e9);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_or_sql() {
        for text in ["\\q", "\\quit", " quit ;", "EXIT;", "exit"] {
            assert_eq!(input(text), Input::Quit, "{text}");
        }
        assert_eq!(input("help;"), Input::Help);
        assert_eq!(input("\\?"), Input::Help);
        assert_eq!(input("clear;"), Input::Clear);
        assert_eq!(input("\\timing"), Input::Timing(None));
        assert_eq!(input("\\timing ON"), Input::Timing(Some(true)));
        assert_eq!(input("SHOW JOBS;"), Input::Jobs);
        assert_eq!(input("STOP JOB 'ab';"), Input::Stop("ab"));
        assert_eq!(input("\\d Orders"), Input::Sql("DESCRIBE Orders".to_owned()));
        assert_eq!(input("\\d x y"), Input::Unknown("\\d x y"));
        assert_eq!(input(" SELECT\n 1;"), Input::Sql(" SELECT\n 1;".to_owned()));
    }
}
