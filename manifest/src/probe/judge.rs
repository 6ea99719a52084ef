//! What one race says of a store, as a pure function of what was seen.
//!
//! Invariants:
//! - Only a create that was answered "created" binds the store. "Exists" and anything else may stand for a create
//!   that was done, by this request or by another, or for one that was not.

/// What the store said to a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Created.
    Created,
    /// There is such an object already.
    Exists,
    /// Anything else.
    Unclear,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// The bytes of this writer.
    Writer(usize),
    /// Bytes that nobody wrote.
    Other,
}

/// All that was seen of a race.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The answers of the writers, who raced.
    pub(super) answers: Vec<Answer>,
    /// A read after all of them had been answered.
    pub(super) read: Found,
    /// The answer to one more create, by the writer after the last.
    pub(super) late: Answer,
    /// A read after that.
    pub(super) again: Found,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One writer won.
    Exclusive,
    /// No answer was clear enough to tell.
    Unclear,
    /// More than one create was answered "created", the late one included.
    Winners(usize),
    /// The winner's bytes are not what is read.
    WinnerReplaced,
    /// The object changed after the race.
    Changed,
    /// What was created cannot be read.
    Unreadable,
}

/// Judges a race.
pub(super) fn judge(seen: &Seen) -> Verdict {
    let Seen { answers, read, late, again } = seen;
    let all: Vec<Answer> = answers.iter().copied().chain([*late]).collect();
    let winners: Vec<usize> = all.iter().enumerate().filter(|(_, answer)| **answer == Answer::Created).map(|(at, _)| at).collect();
    match winners[..] {
        [] | [_] => {}
        _ => return Verdict::Winners(winners.len()),
    }
    let raced = winners.first().copied().filter(|winner| *winner < answers.len());
    match (raced, *read, *again) {
        (Some(_), Found::Nothing, _) | (_, _, Found::Nothing) if !winners.is_empty() => Verdict::Unreadable,
        (Some(winner), read, _) if read != Found::Writer(winner) => Verdict::WinnerReplaced,
        (_, read, again) if read != Found::Nothing && read != again => Verdict::Changed,
        // Created late, over an object that was read before.
        (None, read, _) if read != Found::Nothing && !winners.is_empty() => Verdict::WinnerReplaced,
        (_, Found::Other, _) | (_, _, Found::Other) => Verdict::WinnerReplaced,
        (Some(_), ..) => Verdict::Exclusive,
        (None, Found::Nothing, Found::Writer(writer)) if !winners.is_empty() && writer != answers.len() => Verdict::WinnerReplaced,
        // Nobody was told that he won. If the object stands and refused a late create, that is exclusive all the same.
        (None, Found::Writer(_), _) if *late == Answer::Exists => Verdict::Exclusive,
        (None, ..) => Verdict::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answer::{Created, Exists, Unclear};
    use Found::{Nothing, Other, Writer};

    fn verdict(answers: &[Answer], read: Found, late: Answer, again: Found) -> Verdict {
        judge(&Seen { answers: answers.to_vec(), read, late, again })
    }

    #[test]
    fn one_winner_whose_bytes_stay_is_exclusive() {
        assert_eq!(verdict(&[Exists, Created, Exists], Writer(1), Exists, Writer(1)), Verdict::Exclusive);
        assert_eq!(verdict(&[Unclear, Created, Unclear], Writer(1), Unclear, Writer(1)), Verdict::Exclusive);
    }

    #[test]
    fn a_winner_that_was_not_told_so_is_exclusive() {
        for lost in [Exists, Unclear] {
            assert_eq!(verdict(&[lost, Exists], Writer(0), Exists, Writer(0)), Verdict::Exclusive);
        }
    }

    #[test]
    fn several_winners_are_counted_the_late_one_too() {
        assert_eq!(verdict(&[Created, Created, Exists], Writer(1), Exists, Writer(1)), Verdict::Winners(2));
        assert_eq!(verdict(&[Created, Exists], Writer(0), Created, Writer(2)), Verdict::Winners(2));
    }

    #[test]
    fn a_create_over_what_was_read_is_not_exclusive() {
        assert_eq!(verdict(&[Unclear, Unclear], Writer(0), Created, Writer(2)), Verdict::Changed);
        assert_eq!(verdict(&[Unclear, Unclear], Writer(0), Created, Writer(0)), Verdict::WinnerReplaced);
    }

    #[test]
    fn bytes_of_another_than_the_winner_are_not_exclusive() {
        assert_eq!(verdict(&[Created, Exists], Writer(1), Exists, Writer(1)), Verdict::WinnerReplaced);
        assert_eq!(verdict(&[Created, Exists], Other, Exists, Other), Verdict::WinnerReplaced);
        assert_eq!(verdict(&[Exists, Exists], Other, Exists, Other), Verdict::WinnerReplaced);
    }

    #[test]
    fn a_create_that_lands_over_the_late_one_is_not_exclusive() {
        assert_eq!(verdict(&[Unclear, Exists], Nothing, Created, Writer(0)), Verdict::WinnerReplaced);
    }

    #[test]
    fn an_object_that_changes_after_the_race_is_not_exclusive() {
        assert_eq!(verdict(&[Created, Exists], Writer(0), Exists, Writer(1)), Verdict::Changed);
        assert_eq!(verdict(&[Unclear, Exists], Writer(0), Exists, Writer(1)), Verdict::Changed);
    }

    #[test]
    fn what_was_created_and_is_not_found_is_unreadable() {
        assert_eq!(verdict(&[Created, Exists], Nothing, Exists, Nothing), Verdict::Unreadable);
        assert_eq!(verdict(&[Created, Exists], Nothing, Exists, Writer(0)), Verdict::Unreadable);
        assert_eq!(verdict(&[Created, Exists], Writer(0), Exists, Nothing), Verdict::Unreadable);
        assert_eq!(verdict(&[Exists, Exists], Nothing, Created, Nothing), Verdict::Unreadable);
    }

    #[test]
    fn answers_that_say_nothing_are_not_held_against_the_store() {
        assert_eq!(verdict(&[Exists, Exists], Nothing, Exists, Nothing), Verdict::Unclear, "conflicts without an object");
        assert_eq!(verdict(&[Unclear, Unclear], Nothing, Unclear, Writer(1)), Verdict::Unclear, "a create that lands late");
        assert_eq!(verdict(&[Exists, Exists], Nothing, Created, Writer(2)), Verdict::Unclear, "only the late one got through");
    }
}
