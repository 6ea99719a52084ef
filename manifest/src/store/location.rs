//! Where a store is: the parsed form of the URL or path that the user gives.
//!
//! Invariants:
//! - What is shown of a location holds no secret: user names, passwords and queries are refused, and never repeated.
//! - Text is taken literally, without percent-decoding, so that the shown form and the objects' names agree.

use std::fmt;
use std::path::PathBuf;

use object_store::path::Path;

use super::OpenError;

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// A folder of the local file system; the whole folder is the store.
    Local {
        /// The folder.
        folder: PathBuf,
    },
    /// Memory of this process; each opening is a new, empty store.
    Memory {
        /// The folder on it.
        prefix: Path,
    },
    /// A bucket of Amazon S3 or of a store that speaks its protocol.
    S3 {
        /// The bucket.
        bucket: String,
        /// The folder in it.
        prefix: Path,
    },
    /// A container of Azure Blob Storage.
    Azure {
        /// The container.
        container: String,
        /// The storage account, if the URL names it.
        account: Option<String>,
        /// The folder in it.
        prefix: Path,
    },
}

impl Location {
    /// Parses `text`: a path, `file:///path`, `memory:`, `s3://bucket/prefix`, `az://container/prefix`,
    /// `abfs[s]://container@account.dfs.core.windows.net/prefix`.
    ///
    /// # Errors
    /// [`OpenError::Location`], which repeats of `text` only what cannot be a secret.
    pub fn parse(text: &str) -> Result<Self, OpenError> {
        let Some((scheme, rest)) = split_scheme(text) else {
            return if text.is_empty() { Err(refuse(text, "it is empty")) } else { Ok(Self::Local { folder: PathBuf::from(text) }) };
        };
        if rest.contains(['?', '#']) && scheme != "file" {
            return Err(refuse(text, "'?' and '#' have no meaning in it: give settings as options"));
        }
        match scheme {
            "file" => parse_file(text, rest),
            "memory" => parse_memory(text, rest),
            "s3" | "s3a" => parse_s3(text, rest),
            "az" | "azure" | "abfs" | "abfss" => parse_azure(text, rest),
            "http" | "https" => {
                Err(refuse(text, "name the bucket as s3://bucket/prefix or az://container/prefix, and the server by the option 'endpoint'"))
            }
            _ => Err(refuse(
                text,
                "use a path, file:///path, memory:, s3://bucket/prefix or az://container/prefix (a path with ':' begins with './')",
            )),
        }
    }

    /// The folder on the store below which all objects go.
    #[must_use]
    pub fn prefix(&self) -> Path {
        match self {
            Self::Local { .. } => Path::default(),
            Self::Memory { prefix } | Self::S3 { prefix, .. } | Self::Azure { prefix, .. } => prefix.clone(),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.prefix();
        let slash = if prefix.as_ref().is_empty() { "" } else { "/" };
        match self {
            Self::Local { folder } => write!(f, "{}", folder.display()),
            Self::Memory { .. } if slash.is_empty() => f.write_str("memory:"),
            Self::Memory { .. } => write!(f, "memory:///{prefix}"),
            Self::S3 { bucket, .. } => write!(f, "s3://{bucket}{slash}{prefix}"),
            Self::Azure { container, account: None, .. } => write!(f, "az://{container}{slash}{prefix}"),
            Self::Azure { container, account: Some(account), .. } => write!(f, "az://{container}@{account}{slash}{prefix}"),
        }
    }
}

/// The scheme and what follows its colon; `None` for a path.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    is_scheme.then_some((scheme, rest))
}

fn parse_file(text: &str, rest: &str) -> Result<Location, OpenError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = path.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(path);
    if !path.starts_with('/') {
        return Err(refuse(text, "a file URL names an absolute path after three slashes: file:///path"));
    }
    if path.contains('%') {
        return Err(refuse(text, "percent-encoding is not decoded: give the plain path"));
    }
    Ok(Location::Local { folder: PathBuf::from(path) })
}

fn parse_memory(text: &str, rest: &str) -> Result<Location, OpenError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if !(path.is_empty() || path.starts_with('/')) {
        return Err(refuse(text, "a memory URL is 'memory:' or 'memory:///prefix'"));
    }
    Ok(Location::Memory { prefix: parse_prefix(text, path)? })
}

fn parse_s3(text: &str, rest: &str) -> Result<Location, OpenError> {
    let (bucket, path) = split_authority(text, rest)?;
    if bucket.contains('@') {
        return Err(refuse(text, "keys do not go into it: give them as options or in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
    }
    Ok(Location::S3 { bucket: parse_name(text, bucket)?, prefix: parse_prefix(text, path)? })
}

fn parse_azure(text: &str, rest: &str) -> Result<Location, OpenError> {
    let (authority, path) = split_authority(text, rest)?;
    let prefix = parse_prefix(text, path)?;
    let Some((container, host)) = authority.split_once('@') else {
        return Ok(Location::Azure { container: parse_name(text, authority)?, account: None, prefix });
    };
    let (account, domain) = host.split_once('.').unwrap_or((host, "blob.core.windows.net"));
    if !matches!(domain, "blob.core.windows.net" | "dfs.core.windows.net") {
        return Err(refuse(text, "only hosts below core.windows.net are named in it: give others by the option 'endpoint'"));
    }
    Ok(Location::Azure { container: parse_name(text, container)?, account: Some(parse_name(text, account)?), prefix })
}

/// `//authority/path` in its two parts.
fn split_authority<'a>(text: &str, rest: &'a str) -> Result<(&'a str, &'a str), OpenError> {
    let rest =
        rest.strip_prefix("//").ok_or_else(|| refuse(text, "two slashes follow the scheme: s3://bucket/prefix, az://container/prefix"))?;
    let at = rest.find('/').unwrap_or(rest.len());
    Ok(rest.split_at(at))
}

fn parse_name(text: &str, name: &str) -> Result<String, OpenError> {
    let sound = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '$'));
    if sound {
        Ok(name.to_owned())
    } else {
        Err(refuse(text, "a bucket, container or account is named by letters, digits, '-', '.' and '_'"))
    }
}

fn parse_prefix(text: &str, path: &str) -> Result<Path, OpenError> {
    Path::parse(path).map_err(|_| refuse(text, "its path has an empty part, '.' or '..', or a character that object names cannot hold"))
}

fn refuse(text: &str, reason: &'static str) -> OpenError {
    OpenError::Location { location: shown(text), reason }
}

/// Of a text that may hold secrets, what may be shown: nothing before an '@', nothing after a '?' or '#'.
fn shown(text: &str) -> String {
    let (text, tail) = text.find(['?', '#']).map_or((text, ""), |at| (&text[..at], "..."));
    match (split_scheme(text), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://...@{rest}{tail}"),
        _ => format!("{text}{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display(text: &str) -> String {
        Location::parse(text).map_or_else(|error| error.to_string(), |location| location.to_string())
    }

    #[test]
    fn every_form_is_understood() {
        let prefix = Path::from("a/b");
        let azure =
            |account: Option<&str>| Location::Azure { container: "c".into(), account: account.map(str::to_owned), prefix: prefix.clone() };
        let local = |folder: &str| Location::Local { folder: folder.into() };
        for (text, expected) in [
            ("data/store", local("data/store")),
            ("./s3:odd", local("./s3:odd")),
            ("file:///srv/x", local("/srv/x")),
            ("file:/srv/x", local("/srv/x")),
            ("file://localhost/srv/x", local("/srv/x")),
            ("memory:", Location::Memory { prefix: Path::default() }),
            ("memory:///a/b", Location::Memory { prefix: prefix.clone() }),
            ("s3://bucket", Location::S3 { bucket: "bucket".into(), prefix: Path::default() }),
            ("s3://bucket/a/b/", Location::S3 { bucket: "bucket".into(), prefix: prefix.clone() }),
            ("az://c/a/b", azure(None)),
            ("abfss://c@acc.dfs.core.windows.net/a/b", azure(Some("acc"))),
            ("az://c@acc/a/b", azure(Some("acc"))),
        ] {
            assert_eq!(Location::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_understood_again() {
        for text in ["data/store", "memory:", "memory:///a/b", "s3://bucket", "s3://bucket/a/b", "az://c/a", "az://c@acc/a"] {
            let location = Location::parse(text).unwrap();
            assert_eq!(location.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_store_is_refused_with_what_to_write_instead() {
        for (text, hint) in [
            ("", "empty"),
            ("gs://bucket/x", "s3://bucket/prefix"),
            ("https://server:9000/bucket", "the option 'endpoint'"),
            ("s3:/bucket", "two slashes"),
            ("s3:///prefix", "is named by letters"),
            ("s3://bucket/../x", "'..'"),
            ("s3://bucket/a//b", "empty part"),
            ("file://host/x", "three slashes"),
            ("file:///a%20b", "plain path"),
            ("az://c@acc.example.com/x", "the option 'endpoint'"),
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_in_a_url_is_refused_and_not_repeated() {
        for text in [
            "s3://AKID:hunter2@bucket/x",
            "s3://bucket/x?secret_access_key=hunter2",
            "az://c/x?sig=hunter2",
            "az://c:hunter2@acc/x",
            "https://user:hunter2@server/bucket",
            "abfs://c@acc.dfs.core.windows.net/x#hunter2",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
            assert!(display(text).contains("..."), "{}", display(text));
        }
    }
}
