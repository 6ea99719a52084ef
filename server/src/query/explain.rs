//! What `EXPLAIN` is asked for, as DataFusion takes it: its own parser keeps formats and options apart from the statement, the one
//! that reads our dialect hands on the words of the first and leaves out the second.

use datafusion::common::format::{ExplainFormat, ExplainStatementOptions};
use datafusion::sql::parser::{ExplainStatement, Statement as DfStatement};
use datafusion::sql::sqlparser::ast as df;

use crate::error::{Code, ServerError};

/// A statement for the planner.
///
/// # Errors
/// An option of `EXPLAIN` that there is not, or a value that it does not take.
pub(super) fn for_planner(statement: df::Statement) -> Result<DfStatement, ServerError> {
    let df::Statement::Explain { describe_alias: df::DescribeAlias::Explain, analyze, verbose, statement, format, options, .. } = statement
    else {
        return Ok(DfStatement::Statement(Box::new(statement)));
    };
    let format = format.map(|kind| match kind {
        df::AnalyzeFormatKind::Keyword(format) | df::AnalyzeFormatKind::Assignment(format) => format_of(format),
    });
    let mut asked =
        ExplainStatementOptions { analyze, verbose, format, analyze_level: None, analyze_categories: None, show_statistics: None };
    for option in options.unwrap_or_default() {
        let value = option.arg.map(|value| value.to_string().trim_matches('\'').to_ascii_lowercase());
        match (option.name.value.to_ascii_lowercase().as_str(), value.as_deref()) {
            ("analyze", value) => asked.analyze = is_on("ANALYZE", value)?,
            ("verbose", value) => asked.verbose = is_on("VERBOSE", value)?,
            ("format", Some("text" | "indent")) => asked.format = Some(ExplainFormat::Indent),
            ("format", Some("tree")) => asked.format = Some(ExplainFormat::Tree),
            ("format", Some("json" | "pgjson")) => asked.format = Some(ExplainFormat::PostgresJSON),
            ("format", Some("graphviz")) => asked.format = Some(ExplainFormat::Graphviz),
            ("format", _) => return Err(refused("FORMAT of EXPLAIN is TEXT, TREE, JSON or GRAPHVIZ")),
            (name, _) => return Err(refused(&format!("EXPLAIN has no option '{name}'; there are ANALYZE, VERBOSE and FORMAT"))),
        }
    }
    Ok(DfStatement::Explain(ExplainStatement { options: asked, statement: Box::new(DfStatement::Statement(statement)) }))
}

fn format_of(format: df::AnalyzeFormat) -> ExplainFormat {
    match format {
        df::AnalyzeFormat::TEXT | df::AnalyzeFormat::TRADITIONAL => ExplainFormat::Indent,
        df::AnalyzeFormat::GRAPHVIZ => ExplainFormat::Graphviz,
        df::AnalyzeFormat::JSON => ExplainFormat::PostgresJSON,
        df::AnalyzeFormat::TREE => ExplainFormat::Tree,
    }
}

fn is_on(option: &str, value: Option<&str>) -> Result<bool, ServerError> {
    match value {
        None | Some("true" | "on" | "1") => Ok(true),
        Some("false" | "off" | "0") => Ok(false),
        Some(_) => Err(refused(&format!("{option} of EXPLAIN is TRUE or FALSE"))),
    }
}

fn refused(message: &str) -> ServerError {
    ServerError::new(Code::InvalidArguments, message)
}
