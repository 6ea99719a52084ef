//! What the batches between memtable, SST and merge hold: some columns of the schema, with or without the
//! internal ones.
//!
//! Invariants:
//! - User columns stand in display order, each once; `__sequence` and `__op_type` follow them.
//! - In a batch of a merging layout every column but the time index, the internal ones and tags that are
//!   declared so is nullable, because a delete has no values in its fields.
//! - Arrow fields carry the Parquet field id: column id + 1; internal columns have the two highest ids.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType as ArrowType, Field, Schema as ArrowSchema, SchemaRef};
use tessera_manifest::id::ColumnId;
use tessera_manifest::schema::{Column, Schema, SemanticType};

use crate::request::{Tags, run_ends};
use crate::sst::Error;
use crate::sst::evolve::conform_column;

/// The internal column that holds a row's [`Sequence`](tessera_manifest::id::Sequence), UInt64.
pub const SEQUENCE_COLUMN: &str = "__sequence";
/// The internal column that says what a row does, UInt8: [`DELETE`] or [`PUT`].
pub const OP_TYPE_COLUMN: &str = "__op_type";
/// The row removes its key.
pub const DELETE: u8 = 0;
/// The row is the value of its key.
pub const PUT: u8 = 1;

/// The Parquet field id of `__sequence`.
pub(crate) const SEQUENCE_FIELD_ID: i32 = i32::MAX - 1;
/// The Parquet field id of `__op_type`.
pub(crate) const OP_TYPE_FIELD_ID: i32 = i32::MAX;

/// The Parquet field id of a column; `None` when its id is too high to have one.
pub(crate) fn field_id(column: ColumnId) -> Option<i32> {
    let id = i32::try_from(column.0).ok()?.checked_add(1)?;
    (id < SEQUENCE_FIELD_ID).then_some(id)
}

/// Positions, in the batches of a merging layout, of what rows are ordered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumns {
    /// The tags, in key order.
    pub tags: Vec<usize>,
    /// The time index.
    pub time: usize,
    /// `__sequence`.
    pub sequence: usize,
    /// `__op_type`.
    pub op_type: usize,
}

/// Which columns a batch holds, and what becomes of them for the user.
#[derive(Debug, Clone)]
pub struct Layout {
    schema: Arc<Schema>,
    positions: Vec<usize>,
    wanted: Vec<usize>,
    arrow: SchemaRef,
    keys: Option<KeyColumns>,
    output: SchemaRef,
    tags: Tags,
    picks: Vec<usize>,
}

/// The columns that a batch of another origin has, by column id.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) columns: HashMap<ColumnId, ArrayRef>,
    pub(crate) sequence: Option<ArrayRef>,
    pub(crate) op_type: Option<ArrayRef>,
    pub(crate) rows: usize,
}

impl Layout {
    /// What a merge reads: the wanted columns (display positions; `None` for all), the key and the internal ones.
    ///
    /// # Errors
    /// [`Error::BatchShape`] when a position is not in the schema.
    pub fn merging(schema: Arc<Schema>, wanted: Option<&[usize]>) -> Result<Self, Error> {
        Self::build(schema, wanted, true)
    }

    /// Only the wanted columns: for a file whose rows are all visible and meet no rows of their keys elsewhere.
    ///
    /// # Errors
    /// [`Error::BatchShape`] when a position is not in the schema.
    pub fn plain(schema: Arc<Schema>, wanted: Option<&[usize]>) -> Result<Self, Error> {
        Self::build(schema, wanted, false)
    }

    fn build(schema: Arc<Schema>, wanted: Option<&[usize]>, merging: bool) -> Result<Self, Error> {
        let all: Vec<usize> = (0..schema.columns().len()).collect();
        let wanted = wanted.unwrap_or(&all);
        if let Some(bad) = wanted.iter().find(|p| **p >= all.len()) {
            return Err(Error::BatchShape { detail: format!("there is no column at position {bad} of {}", all.len()) });
        }
        let key = |p: &usize| merging && schema.columns()[*p].semantic != SemanticType::Field;
        let positions: Vec<usize> = all.iter().copied().filter(|p| wanted.contains(p) || key(p)).collect();
        let mut fields: Vec<Field> = positions.iter().map(|p| storage_field(&schema.columns()[*p])).collect();
        let place = |id: ColumnId| positions.iter().position(|p| schema.columns()[*p].id == id);
        let keys = merging.then(|| KeyColumns {
            tags: schema.primary_key().iter().filter_map(|id| place(*id)).collect(),
            time: place(schema.time_index().id).expect("a merging layout holds every key column"),
            sequence: positions.len(),
            op_type: positions.len() + 1,
        });
        if merging {
            fields.push(with_id(Field::new(SEQUENCE_COLUMN, ArrowType::UInt64, false), Some(SEQUENCE_FIELD_ID)));
            fields.push(with_id(Field::new(OP_TYPE_COLUMN, ArrowType::UInt8, false), Some(OP_TYPE_FIELD_ID)));
        }
        let output = wanted.iter().map(|p| schema.columns()[*p].to_arrow()).collect::<Vec<_>>();
        let picks = wanted.iter().filter_map(|p| positions.iter().position(|q| q == p)).collect();
        let (arrow, output) = (Arc::new(ArrowSchema::new(fields)), Arc::new(ArrowSchema::new(output)));
        let wanted = wanted.to_vec();
        Ok(Self { schema, positions, wanted, arrow, keys, output, tags: Tags::Values, picks })
    }

    /// The same with tags that come out of a merge like this.
    pub(crate) fn with_tags(self, tags: Tags) -> Self {
        let field = |position: &usize| {
            let column = &self.schema.columns()[*position];
            let field = column.to_arrow();
            let runs = tags == Tags::Runs && column.semantic == SemanticType::Tag;
            if runs { run_ends(&field) } else { field }
        };
        let output = Arc::new(ArrowSchema::new(self.wanted.iter().map(field).collect::<Vec<_>>()));
        Self { output, tags, ..self }
    }

    /// How tags come out of a merge.
    pub(crate) fn tags(&self) -> Tags {
        self.tags
    }

    /// The schema whose columns these are.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The Arrow schema of batches of this layout.
    #[must_use]
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// Where the key is; `None` in a plain layout.
    #[must_use]
    pub fn keys(&self) -> Option<&KeyColumns> {
        self.keys.as_ref()
    }

    /// The Arrow schema of what [`finish`](Self::finish) gives: the wanted columns in the order asked for.
    #[must_use]
    pub fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// The user columns of the batches.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.positions.iter().map(|p| &self.schema.columns()[*p])
    }

    /// Display positions of the wanted columns, as asked for.
    pub(crate) fn wanted(&self) -> Vec<usize> {
        self.wanted.clone()
    }

    /// Positions of the output's columns in batches of the layout.
    pub(crate) fn picks(&self) -> &[usize] {
        &self.picks
    }

    /// What the user sees of a batch without deletes.
    ///
    /// # Errors
    /// [`Error::Arrow`] when a column that may not be NULL holds one.
    pub fn finish(&self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let columns = self.picks.iter().map(|p| Arc::clone(batch.column(*p))).collect();
        new_batch(&self.output, columns, batch.num_rows())
    }

    /// A batch of this layout out of columns written under this or an earlier schema: what is missing gets its
    /// default or NULL, what was widened since is cast.
    pub(crate) fn conform(&self, source: &Source) -> Result<RecordBatch, Error> {
        let mut columns = Vec::with_capacity(self.arrow.fields().len());
        for column in self.columns() {
            columns.push(conform_column(column, source.columns.get(&column.id), source.rows)?);
        }
        if self.keys.is_some() {
            for (array, name) in [(&source.sequence, SEQUENCE_COLUMN), (&source.op_type, OP_TYPE_COLUMN)] {
                let array = array.as_ref().ok_or_else(|| Error::BatchShape { detail: format!("column {name} is missing") })?;
                columns.push(Arc::clone(array));
            }
        }
        new_batch(&self.arrow, columns, source.rows)
    }
}

/// The Arrow schema of a merging layout's batches in which tags of text are dictionaries with numbers of 32 bits; only
/// what writes files takes such batches.
pub(crate) fn coded(layout: &Layout) -> SchemaRef {
    let tags = layout.keys().map_or(&[][..], |keys| &keys.tags);
    let field = |(position, field): (usize, &Arc<Field>)| {
        if !tags.contains(&position) || *field.data_type() != ArrowType::Utf8 {
            return Arc::clone(field);
        }
        let numbers = ArrowType::Dictionary(Box::new(ArrowType::Int32), Box::new(ArrowType::Utf8));
        Arc::new(field.as_ref().clone().with_data_type(numbers))
    };
    Arc::new(ArrowSchema::new(layout.arrow().fields().iter().enumerate().map(field).collect::<Vec<_>>()))
}

fn storage_field(column: &Column) -> Field {
    let nullable = column.nullable || column.semantic == SemanticType::Field;
    with_id(Field::new(&column.name, column.data_type.to_arrow(), nullable), field_id(column.id))
}

fn with_id(field: Field, id: Option<i32>) -> Field {
    match id {
        Some(id) => field.with_metadata(HashMap::from([(parquet::arrow::PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())])),
        None => field,
    }
}

pub(crate) fn new_batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, Error> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(Error::arrow("form a batch"))
}
