//! Where monkeys get their tokens from: Gafaelfawr, or nowhere (`tokens: local`).

use std::sync::Mutex;

use mobu_fleet::domain::flock::User;
use mobu_fleet::domain::ids::MonkeyName;
use secrecy::SecretString;

use super::gafaelfawr::{Gafaelfawr, TokenError};
use crate::monkey::{AuthenticatedUser, UserOrigin};

/// Length of each half of a token: 16 bytes in unpadded base64url.
const HALF: usize = 22;

/// A source of tokens.
#[derive(Debug)]
pub(crate) enum Tokens {
    /// Made up: of the right form, and good for nothing.
    Local(Local),
    /// Real ones.
    Gafaelfawr(Box<Gafaelfawr>),
}

/// What makes tokens up.
#[derive(Debug)]
pub(crate) struct Local {
    /// Guards the generator; held for one token, never over an await.
    random: Mutex<fastrand::Rng>,
}

impl Tokens {
    pub(crate) fn local(seed: u64) -> Self {
        Self::Local(Local {
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
        })
    }

    /// Returns whether asking costs another service something.
    pub(crate) const fn are_remote(&self) -> bool {
        matches!(self, Self::Gafaelfawr(_))
    }

    /// Returns a user with a token.
    pub(crate) async fn authenticate(&self, user: &User, scopes: &[String]) -> Result<AuthenticatedUser, TokenError> {
        match self {
            Self::Gafaelfawr(gafaelfawr) => gafaelfawr.authenticate(user, scopes).await,
            Self::Local(local) => Ok(AuthenticatedUser {
                username: MonkeyName::new(user.username.as_str()),
                uidnumber: user.uidnumber,
                gidnumber: user.gidnumber.filter(|gid| *gid != 0).or(user.uidnumber),
                groups: user.groups.clone(),
                token: local.token(),
                origin: UserOrigin::Local,
            }),
        }
    }
}

impl Local {
    fn token(&self) -> SecretString {
        let mut random = self.random.lock().expect("no code panics while it holds the generator");
        let mut half = || -> String { (0..HALF).map(|_| random.alphanumeric()).collect() };
        let (key, secret) = (half(), half());
        SecretString::from(format!("gt-{key}.{secret}"))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn local_tokens_look_like_gafaelfawrs_and_differ() {
        let Tokens::Local(local) = Tokens::local(7) else {
            unreachable!()
        };
        let (one, two) = (local.token(), local.token());
        assert_ne!(one.expose_secret(), two.expose_secret());
        let (key, secret) = one
            .expose_secret()
            .strip_prefix("gt-")
            .unwrap()
            .split_once('.')
            .unwrap();
        assert_eq!((key.len(), secret.len()), (HALF, HALF));
    }
}
