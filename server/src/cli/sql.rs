//! `tessera sql`.

use std::io::{self, IsTerminal, Read, Write};

use super::args::SqlArgs;
use super::{Exit, complain};
use crate::shell::{self, Client, ClientError, ShellError};

pub(super) fn run(args: &SqlArgs) -> Exit {
    match execute(args, &mut io::stdout().lock()) {
        Ok(()) => Exit::Ok,
        Err(error) => ending(&error),
    }
}

fn execute(args: &SqlArgs, out: &mut dyn Write) -> Result<(), ShellError> {
    let client = Client::new(&args.addr)?;
    match args.sql.as_deref() {
        Some(sql) if sql != "-" => shell::run_text(&client, sql, &args.db, args.format, out),
        None if io::stdin().is_terminal() => shell::run_interactive(client, &args.db, out),
        _ => {
            let mut script = String::new();
            io::stdin().read_to_string(&mut script)?;
            shell::run_script(&client, &script, &args.db, args.format, out)
        }
    }
}

pub(super) fn ending(error: &ShellError) -> Exit {
    match (error, error.client()) {
        // Whoever read the result has seen enough.
        (ShellError::Io(source), _) if source.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        (_, Some(ClientError::Unreachable { .. })) => complain(Exit::Unreachable, error),
        (_, Some(ClientError::Address { .. })) => complain(Exit::Usage, error),
        _ => complain(Exit::Failed, error),
    }
}
