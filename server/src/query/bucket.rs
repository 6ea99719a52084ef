//! Expressions that say in which bucket of time a row lies.

use std::sync::Arc;

use arrow::array::types::{IntervalDayTime, IntervalMonthDayNano};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use tessera_engine::buckets::Buckets;

const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// The column that `date_trunc('second' … 'day', time)` or `date_bin(interval, time)` is made of, and the buckets into which
/// it cuts it.
pub(super) fn bucket_of(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<(usize, Buckets)> {
    let function = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let [stretch, time] = function.args() else { return None };
    let time = time.downcast_ref::<Column>()?.index();
    let DataType::Timestamp(unit, None) = schema.fields().get(time)?.data_type() else { return None };
    let stretch = stretch.downcast_ref::<Literal>()?.value();
    let buckets = match function.fun().name() {
        "date_trunc" => truncated(stretch, *unit),
        "date_bin" => binned(stretch, *unit),
        _ => None,
    };
    Some((time, buckets?))
}

fn nanos_in(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

fn truncated(granularity: &ScalarValue, unit: TimeUnit) -> Option<Buckets> {
    let (ScalarValue::Utf8(Some(granularity)) | ScalarValue::Utf8View(Some(granularity))) = granularity else { return None };
    let seconds = match granularity.to_lowercase().as_str() {
        "second" => 1,
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        _ => return None,
    };
    Buckets::new(seconds * (1_000_000_000 / nanos_in(unit)))
}

/// `date_bin` counts nanoseconds from 1970 on: of a time that these do not reach, or whose bucket begins before the first of
/// them, it makes NULL.
fn binned(interval: &ScalarValue, unit: TimeUnit) -> Option<Buckets> {
    let nanos = match interval {
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months: 0, days, nanoseconds })) => {
            i64::from(*days).checked_mul(NANOS_PER_DAY)?.checked_add(*nanoseconds)?
        }
        ScalarValue::IntervalDayTime(Some(IntervalDayTime { days, milliseconds })) => {
            i64::from(*days).checked_mul(NANOS_PER_DAY)?.checked_add(i64::from(*milliseconds) * 1_000_000)?
        }
        _ => return None,
    };
    let scale = nanos_in(unit);
    if nanos % scale != 0 {
        return None;
    }
    let width = nanos / scale;
    let (least, greatest) = (i64::MIN / scale, i64::MAX / scale);
    let buckets = Buckets::new(width)?;
    // The first multiple of the width that is not below the least time.
    let first = least - least % width;
    Some(buckets.within((first, greatest)))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, IntervalMonthDayNanoType};
    use datafusion::common::config::ConfigOptions;
    use datafusion::functions::datetime::date_bin;
    use datafusion::logical_expr::ColumnarValue;

    use super::*;

    fn bin(interval: ScalarValue, unit: TimeUnit) -> Arc<dyn PhysicalExpr> {
        let schema = Schema::new(vec![Field::new("ts", DataType::Timestamp(unit, None), false)]);
        let args: Vec<Arc<dyn PhysicalExpr>> = vec![Arc::new(Literal::new(interval)), Arc::new(Column::new("ts", 0))];
        Arc::new(ScalarFunctionExpr::try_new(date_bin(), args, &schema, Arc::new(ConfigOptions::default())).unwrap())
    }

    fn of(time: i64, unit: TimeUnit) -> ScalarValue {
        match unit {
            TimeUnit::Second => ScalarValue::TimestampSecond(Some(time), None),
            TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(time), None),
            TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(time), None),
            TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(time), None),
        }
    }

    #[test]
    fn buckets_are_those_of_date_bin_to_the_ends_of_time() {
        for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
            let schema = Schema::new(vec![Field::new("ts", DataType::Timestamp(unit, None), false)]);
            for nanos in [7_000_000_000, 300_000_000_000, NANOS_PER_DAY] {
                let interval = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNanoType::make_value(0, 0, nanos)));
                let expr = bin(interval, unit);
                let (column, buckets) = bucket_of(&expr, &schema).unwrap();
                assert_eq!(column, 0);
                let (scale, width) = (nanos_in(unit), buckets.width());
                let ends = [i64::MIN / scale, i64::MAX / scale, 0];
                let around = |end: i64| [-width, -1, 0, 1, width - 1, width].map(|by| end.saturating_add(by));
                let times = ends.into_iter().flat_map(around).chain([i64::MIN, i64::MAX, -width - 1, 12 * width + 3]);
                for time in times {
                    let batch =
                        arrow::array::RecordBatch::try_new(Arc::new(schema.clone()), vec![of(time, unit).to_array().unwrap()]).unwrap();
                    let ColumnarValue::Array(expected) = expr.evaluate(&batch).unwrap() else { panic!("a column gives a column") };
                    let expected = ScalarValue::try_from_array(&expected, 0).unwrap();
                    let found =
                        buckets.start(time).map_or_else(|| ScalarValue::try_from(expected.data_type()).unwrap(), |start| of(start, unit));
                    assert_eq!(found, expected, "{time} {unit:?} by {nanos}");
                }
            }
        }
    }

    #[test]
    fn months_and_parts_of_a_unit_are_no_buckets() {
        let interval = |months, nanos| ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNanoType::make_value(months, 0, nanos)));
        let schema = Schema::new(vec![Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false)]);
        for interval in [interval(1, 0), interval(0, 1_500_000), interval(0, -1_000_000), interval(0, 0)] {
            assert!(bucket_of(&bin(interval.clone(), TimeUnit::Millisecond), &schema).is_none(), "{interval}");
        }
    }
}
