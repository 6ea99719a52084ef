//! The tour of a new user: real data in, known answers out, before and after restarts.

mod flights;
mod weather;

use crate::support::Server;

/// Asserts that each query has exactly these rows.
#[track_caller]
fn expect(server: &Server, answers: &[(&str, &[&str])]) {
    for (sql, lines) in answers {
        assert_eq!(server.lines(sql), *lines, "{sql}");
    }
}
