//! `NubladoPythonLoop`: runs the same Python in a lab, over and over.

use std::sync::Arc;

use mobu_fleet::domain::business::{NubladoOptions, NubladoPythonLoopOptions};
use mobu_fleet::domain::events::Act;
use mobu_fleet::runtime::clock;

use super::nublado::{InLab, LOGGED, LabSession, LabWork, Ran};
use super::{IterationError, Phase};
use crate::monkey::Monkey;

/// A monkey that runs Python in a lab.
pub(super) type NubladoPythonLoop = InLab<PythonLoop>;

/// What it does there.
#[derive(Debug)]
pub(super) struct PythonLoop {
    options: Arc<NubladoPythonLoopOptions>,
}

impl PythonLoop {
    pub(super) const fn new(options: Arc<NubladoPythonLoopOptions>) -> Self {
        Self { options }
    }
}

impl LabWork for PythonLoop {
    fn options(&self) -> &NubladoOptions {
        &self.options.nublado
    }

    async fn execute_code(&mut self, monkey: &Monkey, session: &mut LabSession<'_>) -> Result<(), IterationError> {
        monkey.enter(Phase::ExecutePython);
        let code = &self.options.code;
        for _ in 0..self.options.max_executions {
            let begun = clock::now();
            let ran = session.run_unseen(code).await;
            if !ran.is_stopped() {
                monkey.emit(Act::NubladoPythonExecution {
                    duration: ran.ended.is_ok().then(|| begun.elapsed().as_secs_f64()),
                    success: ran.ended.is_ok(),
                    code: code.clone(),
                });
            }
            let Ran { printed, ended } = ran;
            let arrow = if ended.is_ok() {
                "->"
            } else {
                "did not end well, after it had printed:"
            };
            monkey.info(&monkey.shown(&format!("{code} {arrow} {printed}"), LOGGED));
            ended?;
            let pause = session.pause(self.options.nublado.execution_idle_time.to_std());
            pause.await.unless_stopped()?;
        }
        Ok(())
    }
}
