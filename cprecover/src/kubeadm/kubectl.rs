//! Reading the API by kubectl, which knows every way to log in that a kubeconfig can name.

use std::path::PathBuf;
use std::time::Duration;

use super::capture::ClusterReader;
use super::program::{check_owner, one_line};
use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;
use crate::sys::{CommandSpec, Commands, Deadline, find_program};

/// Reads objects with the node's own kubectl and `admin.conf`.
pub struct Kubectl<'a> {
    node: &'a NodeOptions,
    commands: &'a dyn Commands,
    program: Option<PathBuf>,
}

impl std::fmt::Debug for Kubectl<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubectl").field("program", &self.program).finish_non_exhaustive()
    }
}

impl<'a> Kubectl<'a> {
    /// Uses the kubectl in the node's usual folders.
    pub fn new(node: &'a NodeOptions, commands: &'a dyn Commands) -> Self {
        Self { node, commands, program: None }
    }

    /// Uses the kubectl at `program`, an absolute path.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }
}

impl ClusterReader for Kubectl<'_> {
    fn config_map(&self, namespace: &str, name: &str, deadline: &Deadline) -> Result<Vec<u8>> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => find_program(&self.node.root, "kubectl")?,
        };
        let program =
            std::fs::canonicalize(&program).map_err(|source| Error::path("find", &program, source))?;
        check_owner(&program, None)?;
        let kubeconfig = self.node.resolve(self.node.kubernetes_dir.join("admin.conf"));
        let spec = CommandSpec::new(&program)
            .args(["--kubeconfig".as_ref(), kubeconfig.as_os_str()])
            .args([
                "--namespace",
                namespace,
                "get",
                "configmap",
                name,
                "--output=json",
                "--request-timeout=8s",
            ])
            .timeout(Duration::from_secs(10));
        let output = self.commands.run(&spec, deadline)?;
        if output.truncated {
            return Err(Error::new(ErrorKind::Limit, format!("ConfigMap {namespace}/{name} is too large")));
        }
        if !output.is_success() {
            let said = one_line(&output.stderr_tail());
            return Err(Error::new(
                ErrorKind::Peer,
                format!("kubectl get configmap {namespace}/{name}: {said}"),
            ));
        }
        Ok(output.stdout)
    }
}
