//! Casts of an INSERT that say which column they are for.
//!
//! DataFusion casts the values of an INSERT to the types of the columns, and its errors name the value and the type
//! only. Each such cast is replaced by a function that does the same and adds the column's name to the error.

use std::sync::Arc;

use arrow::datatypes::DataType as ArrowType;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Alias, Cast, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, Projection, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Values, Volatility,
};
use tessera_manifest::schema::Column;

use super::error::{unwrap, wrap};
use crate::catalog::Table;
use crate::error::{Code, ServerError};

/// The plan of an INSERT's rows with casts that name their column.
///
/// # Errors
/// None in practice: the plan keeps its shape.
pub fn name_casts(plan: LogicalPlan, table: &Table) -> Result<LogicalPlan, ServerError> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(plan) };
    let columns = table.info.schema.columns();
    let fits: Vec<Arc<ScalarUDF>> = columns.iter().map(|column| Arc::new(ScalarUDF::from(Fit::new(column)))).collect();
    let input = match projection.input.as_ref() {
        LogicalPlan::Values(values) => Arc::new(LogicalPlan::Values(name_values(values, &projection.expr, &fits))),
        _ => Arc::clone(&projection.input),
    };
    let exprs = projection.expr.into_iter().enumerate().map(|(at, expr)| name_top(expr, fits.get(at)));
    Projection::try_new(exprs.collect(), input).map(LogicalPlan::Projection).map_err(unwrap)
}

/// The rows of a VALUES clause, whose columns the projection above assigns to those of the table.
fn name_values(values: &Values, projected: &[Expr], fits: &[Arc<ScalarUDF>]) -> Values {
    let mut of_source: Vec<Option<&Arc<ScalarUDF>>> = vec![None; values.schema.fields().len()];
    for (expr, fit) in projected.iter().zip(fits) {
        let source = source_column(expr).and_then(|name| values.schema.index_of_column_by_name(None, name));
        if let Some(slot) = source.and_then(|at| of_source.get_mut(at)) {
            *slot = Some(fit);
        }
    }
    let row = |row: &Vec<Expr>| row.iter().cloned().zip(&of_source).map(|(expr, fit)| name_cast(expr, *fit)).collect();
    Values { schema: Arc::clone(&values.schema), values: values.values.iter().map(row).collect() }
}

fn source_column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Alias(alias) => source_column(&alias.expr),
        Expr::Cast(cast) => source_column(&cast.expr),
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

fn name_top(expr: Expr, fit: Option<&Arc<ScalarUDF>>) -> Expr {
    match expr {
        Expr::Alias(alias) => {
            let inner = name_cast(*alias.expr, fit);
            Expr::Alias(Alias { expr: Box::new(inner), ..alias })
        }
        other => name_cast(other, fit),
    }
}

fn name_cast(expr: Expr, fit: Option<&Arc<ScalarUDF>>) -> Expr {
    match (expr, fit) {
        (Expr::Cast(Cast { expr, field }), Some(fit))
            if fit.inner().downcast_ref::<Fit>().is_some_and(|fit| fit.arrow == *field.data_type()) =>
        {
            Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(fit), vec![*expr]))
        }
        (expr, _) => expr,
    }
}

/// A cast to the type of a column.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Fit {
    /// The column, for messages.
    column: String,
    arrow: ArrowType,
    signature: Signature,
}

impl Fit {
    fn new(column: &Column) -> Self {
        let shown = format!("column '{}' of type {}", column.name, column.data_type);
        Self { column: shown, arrow: column.data_type.to_arrow(), signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Fit {
    fn name(&self) -> &'static str {
        "fit"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[ArrowType]) -> Result<ArrowType> {
        Ok(self.arrow.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let failed = |message: &str| wrap(ServerError::new(Code::InvalidArguments, format!("{}: {message}", self.column)));
        let value = args.args.first().ok_or_else(|| failed("there is no value"))?;
        value.cast_to(&self.arrow, None).map_err(|error| failed(&unwrap(error).message))
    }
}
