//! Bloom filters: row groups that have none of the values asked for.
//!
//! Invariant: a filter is asked only for values whose stored form is known exactly; anything else is unknown.

use std::sync::Arc;

use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::basic::Type as PhysicalType;
use parquet::bloom_filter::Sbbf;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::Column;
use tessera_manifest::value::{DataType, Value};

use super::Error;
use super::read::FileRead;

/// A condition that a row group meets only if it has one of these values in this leaf.
struct Probe {
    leaf: usize,
    data_type: DataType,
    values: Vec<Value>,
}

impl FileRead {
    /// Leaves out row groups of which a bloom filter says that they have no wanted row. Says how many.
    pub(super) async fn without_excluded(mut self, usable: impl Fn(&Column) -> bool) -> Result<(Self, usize), Error> {
        let probes = self.probes(usable);
        if probes.is_empty() {
            return Ok((self, 0));
        }
        let (mut kept, mut excluded) = (Vec::with_capacity(self.groups.len()), 0);
        for group in std::mem::take(&mut self.groups) {
            if self.is_excluded(group.index, &probes).await? {
                excluded += 1;
            } else {
                kept.push(group);
            }
        }
        self.groups = kept;
        metrics::counter!("tessera_scan_row_groups_bloom_skipped_total").increment(excluded as u64);
        Ok((self, excluded))
    }

    fn probes(&self, usable: impl Fn(&Column) -> bool) -> Vec<Probe> {
        let probe = |part: &Expr| {
            let (column, values) = match part {
                Expr::Compare { column, op: CompareOp::Eq, value } => (column, vec![value.clone()]),
                Expr::In { column, values } => (column, values.clone()),
                _ => return None,
            };
            let column = self.layout.schema().column(*column).filter(|column| usable(column))?;
            let leaf = self.footer.leaf(column.id)?;
            let physical = self.footer.reader.parquet_schema().column(leaf).physical_type();
            let known = is_exact(column.data_type, physical) && !values.iter().any(Value::is_null);
            known.then_some(Probe { leaf, data_type: column.data_type, values })
        };
        conjuncts(&self.filter).into_iter().filter_map(probe).collect()
    }

    async fn is_excluded(&self, group: usize, probes: &[Probe]) -> Result<bool, Error> {
        for probe in probes {
            let metadata = self.footer.reader.metadata().row_group(group).column(probe.leaf);
            if metadata.bloom_filter_offset().is_none() {
                continue;
            }
            let bloom = self.bloom(group, probe.leaf).await?;
            if let Some(bloom) = &*bloom
                && !probe.values.iter().any(|value| may_hold(bloom, probe.data_type, value))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn bloom(&self, group: usize, leaf: usize) -> Result<Arc<Option<Sbbf>>, Error> {
        let key = ((self.key, group as u32), leaf);
        if let Some(known) = self.access.caches.blooms.get(&key) {
            return Ok(known);
        }
        let mut reader = ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader(), self.footer.reader.clone());
        let bloom = reader.get_row_group_column_bloom_filter(group, leaf).await;
        let bloom = Arc::new(bloom.map_err(|source| Error::decode(&self.path, source))?);
        self.access.caches.blooms.insert(key, Arc::clone(&bloom));
        Ok(bloom)
    }
}

/// The parts of a conjunction, those of nested ones as well: a rule or a slice is put around the filter of a query.
fn conjuncts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::And(parts) => parts.iter().flat_map(conjuncts).collect(),
        one => vec![one],
    }
}

/// Whether a value of the type has one stored form, which is of the physical type: a column that was widened since
/// may have another, and 0 and −0 are two.
fn is_exact(data_type: DataType, physical: PhysicalType) -> bool {
    use DataType as T;
    match data_type {
        T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 | T::UInt32 | T::Date => physical == PhysicalType::INT32,
        T::Int64 | T::UInt64 | T::Timestamp(_) => physical == PhysicalType::INT64,
        T::String | T::Binary => physical == PhysicalType::BYTE_ARRAY,
        T::Boolean | T::Float32 | T::Float64 | T::Decimal { .. } => false,
    }
}

fn may_hold(bloom: &Sbbf, data_type: DataType, value: &Value) -> bool {
    let wide = matches!(data_type, DataType::Int64 | DataType::UInt64 | DataType::Timestamp(_));
    match value {
        Value::Int(v) | Value::Timestamp(v) if wide => bloom.check(v),
        Value::Int(v) => i32::try_from(*v).is_ok_and(|v| bloom.check(&v)),
        Value::UInt(v) if wide => bloom.check(&v.cast_signed()),
        Value::UInt(v) => u32::try_from(*v).is_ok_and(|v| bloom.check(&v.cast_signed())),
        Value::Date(v) => bloom.check(v),
        Value::String(v) => bloom.check(v.as_str()),
        Value::Binary(v) => bloom.check(v.as_slice()),
        _ => true,
    }
}
