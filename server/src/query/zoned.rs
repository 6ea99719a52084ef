//! Casts that shift a timestamp: `ts AT TIME ZONE '+01:00'`.
//!
//! A timestamp without a zone that is cast to one with a zone is read as a local time of it, so that its instant becomes
//! another. The rule of DataFusion that moves casts to constants takes every cast of timestamps for a change of unit. Such
//! casts are hidden from it: each becomes a function that does the same.
//!
//! Invariant: the function has the type, the values, the NULLs and the errors of the cast.

use std::sync::Arc;

use arrow::compute::CastOptions;
use arrow::datatypes::{DataType as ArrowType, Field, FieldRef};
use datafusion::common::format::DEFAULT_CAST_OPTIONS;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast, try_cast,
};

use super::finer_time::is_utc;

/// Functions that DataFusion makes casts of, too late for whoever must see these first; whether a value that does not fit
/// becomes NULL.
const CASTS: [(&str, bool); 4] = [("arrow_cast", false), ("arrow_try_cast", true), ("cast_to_type", false), ("try_cast_to_type", true)];

/// Whether this is a function that casts.
pub(super) fn is_cast(expr: &Expr) -> bool {
    cast_of(expr).is_some()
}

/// What a function that casts casts, and whether a value that does not fit becomes NULL.
fn cast_of(expr: &Expr) -> Option<(&Expr, bool)> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let (_, safe) = CASTS.iter().find(|(name, _)| *name == function.func.name())?;
    Some((function.args.first()?, *safe))
}

/// A function that casts to a timestamp as the cast that it is.
pub(super) fn write_out(expr: Expr, context: &SimplifyContext) -> Transformed<Expr> {
    let Some((of, safe)) = cast_of(&expr) else { return Transformed::no(expr) };
    match context.get_data_type(&expr) {
        Ok(to @ ArrowType::Timestamp(..)) => Transformed::yes(if safe { try_cast(of.clone(), to) } else { cast(of.clone(), to) }),
        _ => Transformed::no(expr),
    }
}

/// The function that stands for a cast, if that shifts a timestamp.
pub(super) fn shift(expr: &Expr, context: &SimplifyContext) -> Option<Expr> {
    let (of, to, safe) = match expr {
        Expr::Cast(cast) => (cast.expr.as_ref(), cast.field.data_type(), false),
        Expr::TryCast(cast) => (cast.expr.as_ref(), cast.field.data_type(), true),
        _ => return None,
    };
    let ArrowType::Timestamp(_, Some(zone)) = to else { return None };
    let shifts = !is_utc(Some(zone)) && matches!(context.get_data_type(of), Ok(ArrowType::Timestamp(_, None)));
    let function = || ScalarUDF::from(InZone { to: to.clone(), safe, signature: Signature::any(1, Volatility::Immutable) });
    shifts.then(|| Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function()), vec![of.clone()])))
}

/// A cast to a timestamp with a zone.
#[derive(Debug, PartialEq, Eq, Hash)]
struct InZone {
    to: ArrowType,
    /// Whether what the type cannot hold becomes NULL.
    safe: bool,
    signature: Signature,
}

impl ScalarUDFImpl for InZone {
    fn name(&self) -> &'static str {
        "in_zone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[ArrowType]) -> Result<ArrowType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = self.safe || args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.to.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let time = args.args.first().ok_or_else(|| DataFusionError::Internal("a cast has no argument".to_owned()))?;
        time.cast_to(&self.to, Some(&CastOptions { safe: self.safe, ..DEFAULT_CAST_OPTIONS }))
    }
}
