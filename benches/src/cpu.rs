//! Generated data after TSBS's "cpu-only" use case.
//!
//! Invariants:
//! - The same settings give the same rows, on every machine.
//! - A row is a (host, step) pair; hosts are numbered from 0, steps are points in time. Each pair is one row.
//! - A field is TSBS's clamped random walk: it starts anywhere in 0..=100 and takes steps of N(0, 1), clamped.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::SchemaRef;
use tessera_manifest::id::ColumnId;
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit};

use crate::Result;
use crate::options::{Entropy, Options, Order};

/// The tags, in key order.
pub const TAGS: [&str; 10] =
    ["hostname", "region", "datacenter", "rack", "os", "arch", "team", "service", "service_version", "service_environment"];
/// The fields.
pub const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];
/// The position and id of the time index; tags stand before it, fields after.
pub const TIME: usize = TAGS.len();
/// 2016-01-01T00:00:00Z, where TSBS starts, in milliseconds.
const START_MS: i64 = 1_451_606_400_000;

/// The generated table.
pub struct Cpu {
    schema: Arc<Schema>,
    arrow: SchemaRef,
    /// By host, in the order of [`TAGS`].
    tags: Vec<[String; TAGS.len()]>,
    steps: usize,
    interval_ms: i64,
    /// By field; at step * hosts + host.
    values: Vec<Vec<f64>>,
}

/// Which values rows have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The generated ones.
    First,
    /// Others, as a later correction has them.
    Corrected,
}

impl Cpu {
    /// Generates it.
    ///
    /// # Errors
    /// When the sizes asked for do not fit this machine's integers.
    pub fn generate(options: &Options) -> Result<Self> {
        let hosts = usize::try_from(options.hosts)?;
        let steps = usize::try_from(options.rows)?.div_ceil(hosts);
        let mut random = Random(options.seed);
        let tags = (0..hosts).map(|host| host_tags(host, &mut random)).collect();
        let mut values = Vec::with_capacity(FIELDS.len());
        for _ in FIELDS {
            let mut now: Vec<f64> = (0..hosts).map(|_| random.unit() * 100.0).collect();
            let mut field = Vec::with_capacity(steps * hosts);
            for _ in 0..steps {
                field.extend(now.iter().map(|v| if options.entropy == Entropy::Low { v.trunc() } else { *v }));
                now.iter_mut().for_each(|v| *v = (*v + random.normal()).clamp(0.0, 100.0));
            }
            values.push(field);
        }
        let schema = Arc::new(schema()?);
        let arrow = schema.to_arrow();
        Ok(Self { schema, arrow, tags, steps, interval_ms: i64::from(options.interval_ms), values })
    }

    /// The table's schema.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Hosts.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.tags.len()
    }

    /// Points in time of each host.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.steps * self.hosts()
    }

    /// The name of a host.
    #[must_use]
    pub fn host_name(&self, host: usize) -> &str {
        &self.tags[host][0]
    }

    /// The time of a step, in milliseconds.
    #[must_use]
    pub fn time_ms(&self, step: usize) -> i64 {
        START_MS + step as i64 * self.interval_ms
    }

    /// Points of a host within an hour that starts at a point.
    #[must_use]
    pub fn steps_per_hour(&self) -> usize {
        (3_600_000_u64.div_ceil(self.interval_ms.unsigned_abs()) as usize).min(self.steps)
    }

    /// All rows in order of arrival, in batches of this many.
    ///
    /// # Errors
    /// Arrow's.
    pub fn arriving(&self, order: Order, batch_rows: usize) -> Result<Vec<RecordBatch>> {
        let (hosts, steps) = (self.hosts(), self.steps);
        let row = |number: usize| match order {
            Order::Time => (number % hosts, number / hosts),
            Order::Host => (number / steps, number % steps),
        };
        let starts = (0..self.rows()).step_by(batch_rows.max(1));
        starts.map(|start| self.batch((start..self.rows().min(start + batch_rows)).map(row), Take::First)).collect()
    }

    /// All rows in order of time, one batch at a time.
    pub fn in_time_order(&self, batch_rows: usize) -> impl Iterator<Item = Result<RecordBatch>> {
        let (hosts, rows) = (self.hosts(), self.rows());
        let starts = (0..rows).step_by(batch_rows.max(1));
        starts.map(move |start| self.batch((start..rows.min(start + batch_rows)).map(|n| (n % hosts, n / hosts)), Take::First))
    }

    /// All rows in (primary key, time) order.
    ///
    /// # Errors
    /// Arrow's.
    pub fn sorted(&self, batch_rows: usize) -> Result<Vec<RecordBatch>> {
        let mut hosts: Vec<usize> = (0..self.hosts()).collect();
        hosts.sort_unstable_by_key(|host| &self.tags[*host]);
        let row = |number: usize| (hosts[number / self.steps], number % self.steps);
        let starts = (0..self.rows()).step_by(batch_rows.max(1));
        starts.map(|start| self.batch((start..self.rows().min(start + batch_rows)).map(row), Take::First)).collect()
    }

    /// New values for every n-th point in time of all hosts, in batches of this many rows.
    ///
    /// # Errors
    /// Arrow's.
    pub fn corrections(&self, every: usize, batch_rows: usize) -> Result<Vec<RecordBatch>> {
        let hosts = self.hosts();
        let rows = self.steps.div_ceil(every) * hosts;
        let row = |number: usize| (number % hosts, number / hosts * every);
        (0..rows).step_by(batch_rows).map(|start| self.batch((start..rows.min(start + batch_rows)).map(row), Take::Corrected)).collect()
    }

    /// The sum of a field over all rows.
    #[must_use]
    pub fn sum(&self, field: usize) -> f64 {
        self.values[field].iter().sum()
    }

    /// The same, when every n-th point in time is corrected.
    #[must_use]
    pub fn corrected_sum(&self, field: usize, every: usize) -> f64 {
        let points = self.values[field].chunks(self.hosts()).enumerate();
        points.map(|(step, row)| row.iter().map(|v| if step % every == 0 { corrected(*v) } else { *v }).sum::<f64>()).sum()
    }

    /// The sum of a field of one host over some points in time.
    #[must_use]
    pub fn host_sum(&self, field: usize, host: usize, steps: std::ops::Range<usize>) -> f64 {
        steps.map(|step| self.values[field][step * self.hosts() + host]).sum()
    }

    fn batch(&self, rows: impl Iterator<Item = (usize, usize)> + Clone, take: Take) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.arrow.fields().len());
        for tag in 0..TAGS.len() {
            columns.push(Arc::new(StringArray::from_iter_values(rows.clone().map(|(host, _)| self.tags[host][tag].as_str()))));
        }
        columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(rows.clone().map(|(_, step)| self.time_ms(step)))));
        for values in &self.values {
            let values = rows.clone().map(|(host, step)| values[step * self.hosts() + host]);
            let array: Float64Array = match take {
                Take::First => Float64Array::from_iter_values(values),
                Take::Corrected => Float64Array::from_iter_values(values.map(corrected)),
            };
            columns.push(Arc::new(array));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.arrow), columns)?)
    }
}

fn corrected(value: f64) -> f64 {
    100.0 - value
}

/// Whether two sums of the same numbers in different order can be equal.
#[must_use]
pub fn same_sum(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

fn schema() -> Result<Schema> {
    let column = |id: usize, name: &str, data_type, semantic| Column {
        id: ColumnId(id as u32),
        name: name.to_owned(),
        data_type,
        semantic,
        nullable: semantic != SemanticType::TimeIndex,
        default: None,
        comment: None,
    };
    let tags = TAGS.iter().enumerate().map(|(i, name)| column(i, name, DataType::String, SemanticType::Tag));
    let time = column(TIME, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex);
    let fields = FIELDS.iter().enumerate().map(|(i, name)| column(TIME + 1 + i, name, DataType::Float64, SemanticType::Field));
    let key = (0..TAGS.len()).map(|id| ColumnId(id as u32)).collect();
    Ok(Schema::new(tags.chain([time]).chain(fields).collect(), key)?)
}

/// Names as TSBS gives them: the data center lies in the region, all else is drawn.
fn host_tags(host: usize, random: &mut Random) -> [String; TAGS.len()] {
    const REGIONS: [&str; 9] = [
        "us-east-1",
        "us-west-1",
        "us-west-2",
        "eu-west-1",
        "eu-central-1",
        "ap-southeast-1",
        "ap-southeast-2",
        "ap-northeast-1",
        "sa-east-1",
    ];
    let region = random.choice(&REGIONS);
    let center = random.choice(&["a", "b", "c"]);
    [
        format!("host_{host}"),
        region.to_owned(),
        format!("{region}{center}"),
        random.below(100).to_string(),
        random.choice(&["Ubuntu15.10", "Ubuntu16.04LTS", "Ubuntu16.10"]).to_owned(),
        random.choice(&["x64", "x86"]).to_owned(),
        random.choice(&["SF", "NYC", "LON", "CHI"]).to_owned(),
        random.below(20).to_string(),
        random.below(2).to_string(),
        random.choice(&["production", "staging", "test"]).to_owned(),
    ]
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In 0..1.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.unit() * bound as f64) as u64
    }

    fn choice<'a>(&mut self, among: &[&'a str]) -> &'a str {
        among[self.below(among.len() as u64) as usize]
    }

    /// N(0, 1), after Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}
