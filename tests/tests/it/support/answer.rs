//! Answers of the HTTP interface.

use serde_json::Value;

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// A failed statement.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: u64,
    pub(crate) error: String,
}

impl Reply {
    /// The outputs, one per statement, or what the server refused.
    pub(crate) fn outputs(&self) -> Result<Vec<Value>, Refusal> {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {}", self.body));
        assert!(body["execution_time_ms"].is_u64(), "{body}");
        match body.get("output") {
            Some(output) => {
                assert_eq!(self.status, 200, "{body}");
                Ok(output.as_array().unwrap().clone())
            }
            None => Err(Refusal {
                status: self.status,
                code: body["code"].as_u64().unwrap(),
                error: body["error"].as_str().unwrap().to_owned(),
            }),
        }
    }
}

impl Refusal {
    /// Asserts status, code, and what the message says; it is one line that a person can read.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16, code: u64, parts: &[&str]) {
        assert_eq!((self.status, self.code), (status, code), "{}", self.error);
        for part in parts {
            assert!(self.error.contains(part), "'{part}' is not in: {}", self.error);
        }
        assert!(!self.error.contains('\n') && self.error.len() < 2_000, "{}", self.error);
    }
}

/// A value as a short text.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
