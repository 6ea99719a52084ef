//! The interactive session: lines in, tables out, history kept.
//!
//! Ctrl-C drops the lines typed so far (while a statement runs it ends the shell), Ctrl-D and `\q` leave. A failed statement is shown and the session goes on.

use std::io::{self, Write};

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use super::client::Client;
use super::input::{self, Command};
use super::progress;
use super::{ShellError, history_path};
use crate::config::limits;
use crate::output::Format;

const HELP: &str = r"Statements end with ; and may take several lines. Ctrl-C drops what was typed, Ctrl-D leaves.
  \d            tables          \d NAME    columns of a table
  \l            databases       \c NAME    change the database (also: USE NAME;)
  \x            a value per line, or a row per line
  \timing       show times, or stop that
  \?            this help       \q         leave
";

/// What the session remembers between lines.
pub(super) struct Session {
    client: Client,
    database: String,
    expanded: bool,
    timing: bool,
    pending: String,
}

/// Whether the session goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    On,
    Quit,
}

/// Reads statements from the terminal until the user leaves.
///
/// # Errors
/// When the server does not answer at the start, or the terminal fails.
pub fn run_interactive(client: Client, database: &str, out: &mut dyn Write) -> Result<(), ShellError> {
    client.check()?;
    let config = Config::builder().max_history_size(limits::HISTORY_LINES_MAX)?.auto_add_history(false).build();
    let mut editor = DefaultEditor::with_config(config)?;
    let history = history_path();
    if let Some(path) = &history {
        // The first session has no history, and a session without one is still a session.
        let _ = editor.load_history(path);
    }
    writeln!(out, "tessera {} at {}; \\? for help, \\q to leave", env!("CARGO_PKG_VERSION"), client.addr())?;
    let mut session = Session::new(client, database);
    loop {
        match editor.readline(&session.prompt()) {
            Ok(line) => {
                if !line.trim().is_empty() {
                    editor.add_history_entry(line.as_str())?;
                }
                if session.line(&line, out)? == Step::Quit {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => session.cancel(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(path) = &history {
        let saved =
            path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(ReadlineError::Io).and_then(|()| editor.save_history(path));
        if let Err(error) = saved {
            writeln!(out, "the history cannot be kept in '{}': {error}", path.display())?;
        }
    }
    Ok(())
}

impl Session {
    pub(super) fn new(client: Client, database: &str) -> Self {
        Self { client, database: database.to_owned(), expanded: false, timing: true, pending: String::new() }
    }

    pub(super) fn prompt(&self) -> String {
        if self.pending.is_empty() {
            format!("{}> ", self.database)
        } else {
            format!("{:>width$}> ", "", width = self.database.chars().count())
        }
    }

    pub(super) fn cancel(&mut self) {
        self.pending.clear();
    }

    /// Takes a line; executes what it completes.
    pub(super) fn line(&mut self, line: &str, out: &mut dyn Write) -> io::Result<Step> {
        if self.pending.is_empty()
            && let Some(command) = input::command(line)
        {
            return self.command(command, out);
        }
        self.pending.push_str(line);
        self.pending.push('\n');
        let text = std::mem::take(&mut self.pending);
        let pieces = input::split(&text);
        for (_, statement) in &pieces.statements {
            self.execute(statement, out)?;
        }
        if !input::is_blank(pieces.rest) {
            self.pending = pieces.rest.trim_start().to_owned();
        }
        Ok(Step::On)
    }

    fn command(&mut self, command: Command, out: &mut dyn Write) -> io::Result<Step> {
        match command {
            Command::Quit => return Ok(Step::Quit),
            Command::Help => out.write_all(HELP.as_bytes())?,
            Command::Describe(None) => self.execute("SHOW TABLES", out)?,
            Command::Describe(Some(table)) => self.execute(&format!("DESC TABLE {table}"), out)?,
            Command::Databases => self.execute("SHOW DATABASES", out)?,
            Command::Use(database) => self.database = database,
            Command::Timing => {
                self.timing = !self.timing;
                writeln!(out, "times are {}", if self.timing { "shown" } else { "not shown" })?;
            }
            Command::Expanded => {
                self.expanded = !self.expanded;
                writeln!(out, "{} per line", if self.expanded { "a value" } else { "a row" })?;
            }
            Command::Unknown(text) => writeln!(out, "there is no command {text}; \\? lists them")?,
        }
        Ok(Step::On)
    }

    fn execute(&self, statement: &str, out: &mut dyn Write) -> io::Result<()> {
        let format = if self.expanded { Format::Vertical } else { Format::Table };
        let sent = progress::shown(&self.client, statement, || self.client.execute(statement, &self.database, format));
        let done = sent.map_err(ShellError::from).and_then(|mut answer| {
            answer.copy_to(out)?;
            Ok(answer.elapsed())
        });
        match done {
            Ok(elapsed) if self.timing => writeln!(out, "time: {:.3} s", elapsed.as_secs_f64()),
            Ok(_) => Ok(()),
            Err(ShellError::Io(error)) => Err(error),
            Err(error) => writeln!(out, "error: {error}"),
        }
    }
}
