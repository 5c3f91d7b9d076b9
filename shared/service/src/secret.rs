//! Where secrets come from: the variable itself, SSM Parameter Store or Secrets Manager.

use std::fmt;

use spanhook_core::secret::Secrets;
use thiserror::Error;

use crate::settings::Vars;

/// A secret as a variable gives it: the live values, or where they are kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum SecretSpec {
    /// The variable is not set.
    #[default]
    Unset,
    /// The values themselves.
    Values(Secrets),
    /// An SSM parameter: `arn:aws:ssm:…` or `ssm:/name`.
    Parameter(String),
    /// A Secrets Manager secret: `arn:aws:secretsmanager:…`.
    Secret(String),
}

impl fmt::Debug for SecretSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => f.write_str("unset"),
            Self::Values(secrets) => secrets.fmt(f),
            Self::Parameter(name) | Self::Secret(name) => f.write_str(name),
        }
    }
}

/// A secret that could not be fetched.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SecretError {
    /// The service refused, or could not be reached.
    #[error(
        "{variable} names a secret that can't be read ({reason}); check that it exists and that the function's role may read it"
    )]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// The service's error code.
        reason: String,
    },
    /// There is nothing in it.
    #[error(
        "{variable} names a secret without a value; store the secret, or a JSON list of live ones"
    )]
    Empty {
        /// The variable that names it.
        variable: &'static str,
    },
}

impl SecretSpec {
    /// Reads a variable. Several live values are a JSON list of strings, or one on each line.
    #[must_use]
    pub fn parse(vars: &Vars, name: &str) -> Self {
        let value = vars.get(name).map_or("", |it| it.trim());
        if let Some(name) = value.strip_prefix("ssm:") {
            return Self::Parameter(name.to_owned());
        }
        let arn: Vec<_> = value.splitn(4, ':').collect();
        match arn.as_slice() {
            _ if value.is_empty() => Self::Unset,
            ["arn", _, "ssm", _] => Self::Parameter(value.to_owned()),
            ["arn", _, "secretsmanager", _] => Self::Secret(value.to_owned()),
            _ => Self::Values(live_values(value)),
        }
    }

    /// The live values, fetched where they are kept. `variable` is what an error names.
    pub async fn resolve(&self, variable: &'static str) -> Result<Secrets, SecretError> {
        let unreadable = |reason: Option<&str>| SecretError::Unreadable {
            variable,
            reason: reason.unwrap_or("no answer").to_owned(),
        };
        let value = match self {
            Self::Unset => return Ok(Secrets::default()),
            Self::Values(secrets) => return Ok(secrets.clone()),
            Self::Parameter(name) => {
                let client = aws_sdk_ssm::Client::new(&aws_config::load_from_env().await);
                let request = client.get_parameter().name(name).with_decryption(true);
                let answer = request.send().await.map_err(|error| {
                    unreadable(error.as_service_error().and_then(|it| it.meta().code()))
                })?;
                answer.parameter.and_then(|it| it.value)
            }
            Self::Secret(arn) => {
                let client =
                    aws_sdk_secretsmanager::Client::new(&aws_config::load_from_env().await);
                let answer =
                    client.get_secret_value().secret_id(arn).send().await.map_err(|error| {
                        unreadable(error.as_service_error().and_then(|it| it.meta().code()))
                    })?;
                answer.secret_string
            }
        };
        let secrets = live_values(value.as_deref().unwrap_or_default().trim());
        if secrets.is_empty() { Err(SecretError::Empty { variable }) } else { Ok(secrets) }
    }
}

fn live_values(text: &str) -> Secrets {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(values) => Secrets::new(values),
        Err(_) => Secrets::new(text.lines().map(str::trim)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> SecretSpec {
        SecretSpec::parse(&Vars::from([("S".to_owned(), value.to_owned())]), "S")
    }

    #[test]
    fn several_live_values_are_a_list_or_lines() {
        let both = SecretSpec::Values(Secrets::new(["one", "two"]));
        assert_eq!(parse(r#"["one", "two"]"#), both);
        assert_eq!(parse("one\ntwo\n"), both);
        assert_eq!(parse("one two,three"), SecretSpec::Values(Secrets::new(["one two,three"])));
        assert_eq!(parse("  "), SecretSpec::Unset);
    }

    #[test]
    fn references_are_told_from_values() {
        let parameter = "arn:aws:ssm:eu-west-1:1:parameter/spanhook/circleci";
        assert_eq!(parse(parameter), SecretSpec::Parameter(parameter.to_owned()));
        assert_eq!(parse("ssm:/spanhook/x"), SecretSpec::Parameter("/spanhook/x".to_owned()));
        let secret = "arn:aws-cn:secretsmanager:cn-north-1:1:secret:x";
        assert_eq!(parse(secret), SecretSpec::Secret(secret.to_owned()));
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", parse("hunter2")), "Secrets(1 redacted)");
    }
}
