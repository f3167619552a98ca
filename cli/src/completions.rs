//! `mobu completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

const AFTER_HELP: &str = "\
Examples:
  source <(mobu completions bash)
  mobu completions fish > ~/.config/fish/completions/mobu.fish";

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, out: &mut Output) -> Result<Outcome, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "mobu", &mut script);
        out.bytes(&script)?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use crate::stand_in::run_at;

    #[tokio::test]
    async fn completions_name_the_commands_and_need_no_fleet() {
        for shell in ["bash", "zsh", "fish"] {
            let end = run_at("http://127.0.0.1:9", &["completions", shell]).await;
            assert_eq!(end.code, 0);
            assert!(end.stdout.contains("refresh"), "{shell}");
        }
    }
}
