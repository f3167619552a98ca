//! What a monkey is at, in names that everybody knows.

/// What a monkey is at. The names are those of mobu's spans (`contracts/integrations.md` 4.3), in one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Finding services.
    Discovery,
    /// Making users and their tokens, before there are monkeys.
    Authenticate,
    /// Making a client and asking a service what it can do.
    MakeClient,
    /// One request of an `HTTPRunner`.
    Request,
    /// A TAP query.
    TapQuery,
    /// An SIA query.
    SiaSearch,
    /// The requests of Muster.
    Muster,
    /// A check of Git LFS: making the origin.
    CreateOrigin,
    /// A check of Git LFS: making the checkout, and adding a file to it.
    AddAsset,
    /// A check of Git LFS: pushing it.
    PushAsset,
    /// A check of Git LFS: looking at what the origin has.
    VerifyOrigin,
    /// A check of Git LFS: cloning, and comparing the file.
    VerifyAsset,
    /// Waiting so that not all monkeys log in together.
    PreLoginDelay,
    /// Logging in to JupyterHub.
    HubLogin,
    /// Spawning a lab.
    SpawnLab,
    /// Logging in to the lab.
    LabLogin,
    /// Deleting the lab.
    DeleteLab,
    /// Making a session and connecting to its kernel.
    CreateSession,
    /// Ending a session.
    DeleteSession,
    /// Running what prepares a session.
    ExecuteSetup,
    /// Running code.
    ExecutePython,
    /// Cloning the notebooks' repository.
    CloneRepo,
    /// Choosing notebooks.
    FindNotebooks,
    /// Reading a notebook.
    ReadNotebook,
    /// Running a cell.
    ExecuteCell,
}

impl Phase {
    /// All of them, each at the position of its number.
    const ALL: [Self; 25] = [
        Self::Discovery,
        Self::Authenticate,
        Self::MakeClient,
        Self::Request,
        Self::TapQuery,
        Self::SiaSearch,
        Self::Muster,
        Self::CreateOrigin,
        Self::AddAsset,
        Self::PushAsset,
        Self::VerifyOrigin,
        Self::VerifyAsset,
        Self::PreLoginDelay,
        Self::HubLogin,
        Self::SpawnLab,
        Self::LabLogin,
        Self::DeleteLab,
        Self::CreateSession,
        Self::DeleteSession,
        Self::ExecuteSetup,
        Self::ExecutePython,
        Self::CloneRepo,
        Self::FindNotebooks,
        Self::ReadNotebook,
        Self::ExecuteCell,
    ];

    /// Returns its number.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the phase of a number.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns its name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Authenticate => "authenticate",
            Self::MakeClient => "make_client",
            Self::Request => "request",
            Self::TapQuery => "execute_query",
            Self::SiaSearch => "search",
            Self::Muster => "muster",
            Self::CreateOrigin => "create_origin",
            Self::AddAsset => "add_asset",
            Self::PushAsset => "push_asset",
            Self::VerifyOrigin => "verify_origin",
            Self::VerifyAsset => "verify_asset",
            Self::PreLoginDelay => "pre_login_delay",
            Self::HubLogin => "hub_login",
            Self::SpawnLab => "spawn_lab",
            Self::LabLogin => "lab_login",
            Self::DeleteLab => "delete_lab",
            Self::CreateSession => "create_session",
            Self::DeleteSession => "delete_session",
            Self::ExecuteSetup => "execute_setup",
            Self::ExecutePython => "execute_python",
            Self::CloneRepo => "clone_repo",
            Self::FindNotebooks => "find_notebooks",
            Self::ReadNotebook => "read_notebook",
            Self::ExecuteCell => "execute_cell",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_found_by_its_number() {
        for phase in Phase::ALL {
            assert_eq!(Phase::of_number(phase.number()), Some(phase));
        }
        assert_eq!(Phase::of_number(u8::MAX), None);
    }
}
