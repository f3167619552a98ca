//! How git comes by the user and the password in a repository's URL: not by its command line, nor by those of the programs that it starts,
//! which everybody on the machine can read.

use mobu_fleet::domain::business::split_user_info;

use crate::client::shown::spellings;

/// Variables in which git's helper finds them.
const VARIABLES: [&str; 2] = ["MOBU_GIT_USERNAME", "MOBU_GIT_PASSWORD"];

/// What git runs, in a shell, when a server asks who comes.
const HELPER: &str = r#"!f() { if test "$1" = get; then printf 'username=%s\npassword=%s\n' "$MOBU_GIT_USERNAME" "$MOBU_GIT_PASSWORD"; fi; }; f"#;

/// A repository's URL without its secrets, and how git is told those.
pub(super) struct Login {
    /// What is to be cloned.
    pub(super) url: String,
    /// Arguments of every command.
    pub(super) settings: Vec<String>,
    /// Variables of every command.
    pub(super) variables: Vec<(&'static str, String)>,
}

impl Login {
    /// Takes user and password out of a URL of a web server. Anything else git gets as it is: it may be no URL at all.
    pub(super) fn of(url: &str) -> Self {
        let as_it_is = || Self {
            url: url.to_owned(),
            settings: Vec::new(),
            variables: Vec::new(),
        };
        let Some((scheme, rest)) = url.split_once("://") else {
            return as_it_is();
        };
        let (Some(written), place) = split_user_info(rest) else {
            return as_it_is();
        };
        if !["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web)) {
            return as_it_is();
        }
        let host = place.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, password) = written.split_once(':').unwrap_or((written, ""));
        let key = format!("credential.{scheme}://{host}.helper");
        // The first forgets the helpers that the user of the process has for this host: they may know another password.
        let settings = [format!("{key}="), format!("{key}={HELPER}")];
        let settings = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]);
        let variables = VARIABLES.into_iter().zip([user, password].map(meant));
        Self {
            url: format!("{scheme}://{place}"),
            settings: settings.collect(),
            variables: variables.collect(),
        }
    }
}

/// Returns a part of a URL as it is meant. Line ends would be words to git, and in no password.
fn meant(written: &str) -> String {
    let [_, meant, _] = spellings(written);
    meant.chars().filter(|character| !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_of_a_web_server_are_in_variables_alone() {
        let login = Login::of("https://me:p%40s+s@git.test:8443/a.git?x");
        assert_eq!(login.url, "https://git.test:8443/a.git?x");
        assert_eq!(login.settings.len(), 4);
        assert_eq!(login.settings[1], "credential.https://git.test:8443.helper=");
        assert!(login.settings.iter().all(|setting| !setting.contains("p@s")));
        let variables = [
            ("MOBU_GIT_USERNAME", "me".to_owned()),
            ("MOBU_GIT_PASSWORD", "p@s+s".to_owned()),
        ];
        assert_eq!(login.variables, variables);
        let token = Login::of("https://ghp_token@git.test/a.git");
        assert_eq!(token.variables[0].1, "ghp_token");
    }

    #[test]
    fn what_is_no_url_of_a_web_server_with_a_user_stays_as_it_is() {
        for url in [
            "https://git.test/a.git",
            "git@git.test:a.git",
            "ssh://git@git.test/a",
            "/srv/a.git",
            "file://u:p@/a",
        ] {
            let login = Login::of(url);
            assert_eq!(
                (login.url.as_str(), login.settings.len(), login.variables.len()),
                (url, 0, 0)
            );
        }
    }
}
