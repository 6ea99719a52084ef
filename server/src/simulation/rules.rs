//! Random partition rules, as statements.

use tessera_manifest::schema::Schema;
use tessera_metaclient::testing::Random;

use super::world::{TABLE, World};
use crate::query::rules::text;

fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[usize::try_from(random.below(of.len() as u64)).unwrap()]
}

/// A condition on a column: one side of a cut is it, the other one its negation.
fn cut(random: &mut Random, columns: &[&str]) -> (String, String) {
    match *pick(random, columns) {
        "host" => {
            let bound = pick(random, &["b", "golf", "h", "m", "tango", "x"]);
            match random.below(3) {
                0 => (format!("host IN ('{bound}', 'mike')"), format!("host NOT IN ('{bound}', 'mike') OR host IS NULL")),
                _ => (format!("host < '{bound}'"), format!("host >= '{bound}'")),
            }
        }
        column => {
            let bound = random.below(80);
            (format!("{column} < {bound}"), format!("{column} >= {bound}"))
        }
    }
}

/// Rules that partition, by cuts of these columns, and the columns that they name.
fn partition(random: &mut Random, columns: &[&str]) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    for _ in 0..random.below(4) {
        let (low, high) = cut(random, columns);
        if rules.is_empty() {
            rules = vec![low, high];
            continue;
        }
        let at = usize::try_from(random.below(rules.len() as u64)).unwrap();
        let whole = rules.remove(at);
        rules.extend([format!("({whole}) AND ({low})"), format!("({whole}) AND ({high})")]);
    }
    rules
}

/// The columns that may be in rules.
pub(super) fn columns(append: bool) -> &'static [&'static str] {
    if append { &["host", "ts", "v"] } else { &["host", "ts"] }
}

fn named<'a>(rules: &[String], columns: &[&'a str]) -> Vec<&'a str> {
    columns.iter().copied().filter(|column| rules.iter().any(|rule| rule.contains(&format!("{column} ")))).collect()
}

/// `PARTITION ON COLUMNS (...) (...)`.
pub(super) fn partition_on(random: &mut Random, append: bool) -> String {
    let rules = partition(random, columns(append));
    let columns = named(&rules, columns(append));
    if rules.is_empty() || columns.is_empty() {
        return "PARTITION ON COLUMNS () ()".to_owned();
    }
    format!("PARTITION ON COLUMNS ({}) ({})", columns.join(", "), rules.join(", "))
}

/// A change of the table's partitions; nothing if the table cannot be read.
pub(super) async fn change(world: &World, random: &mut Random) -> Option<String> {
    let info = world.catalog.table_by_id(TABLE).await.ok()?;
    let routes = world.routes().await.write.routes;
    let schema: &Schema = &info.schema;
    let columns: Vec<&str> = info.partition_columns.iter().filter_map(|id| Some(schema.column(*id)?.name.as_str())).collect();
    let rules: Vec<String> = routes.iter().map(|route| text(&route.rule, schema)).collect();
    let how = match random.below(8) {
        0 => " WITH (wait = false)",
        1 => " WITH (timeout = '300ms')",
        _ => "",
    };
    let change = match random.below(6) {
        0 | 1 if !columns.is_empty() => {
            let (rule, (low, high)) = (pick(random, &rules), cut(random, &columns));
            format!("SPLIT PARTITION ({rule}) INTO (({rule}) AND ({low}), ({rule}) AND ({high}))")
        }
        2 | 3 if rules.len() > 1 => {
            let first = usize::try_from(random.below(rules.len() as u64)).unwrap();
            let second = (first + 1) % rules.len();
            format!("MERGE PARTITION ({}, {})", rules[first], rules[second])
        }
        _ => partition_on(random, world.append),
    };
    Some(format!("ALTER TABLE t {change}{how}"))
}
