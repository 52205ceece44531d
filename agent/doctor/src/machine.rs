//! The evidence about one machine, and the questions many checks ask of it.

use crate::capability;
use crate::probes::{Probes, TargetProbes};
use tierscope_machine::Root;

/// A machine: its files and what was tried on it.
#[derive(Debug)]
pub struct Machine {
    /// Its `/proc` and `/sys`.
    pub root: Root,
    /// System calls tried on it.
    pub probes: Probes,
    /// How to try them on another process: its id, and an address in it that is mapped.
    pub try_target: fn(u32, Option<u64>) -> TargetProbes,
}

/// What keeps this process apart from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    Docker,
    Podman,
    Kubernetes,
    Lxc,
    Other,
}

impl Machine {
    /// This one; the probes are made now.
    pub fn here() -> Self {
        Self { root: Root::default(), probes: Probes::here(), try_target: TargetProbes::of }
    }

    pub(crate) fn has_capability(&self, capability: u32) -> bool {
        self.root.field("/proc/self/status", "CapEff").is_some_and(|mask| capability::holds(&mask, capability))
    }

    /// Whether a seccomp filter stands between this process and the kernel.
    pub(crate) fn is_filtered(&self) -> bool {
        self.root.field("/proc/self/status", "Seccomp").is_some_and(|mode| mode != "0")
    }

    pub(crate) fn is_virtual(&self) -> bool {
        let flags = self.root.field("/proc/cpuinfo", "flags").unwrap_or_default();
        flags.split(' ').any(|flag| flag == "hypervisor")
    }

    pub(crate) fn container(&self) -> Option<Container> {
        let environment = |path: &str, name: &str| {
            let text = self.root.text(path).unwrap_or_default();
            let value = text.split('\0').find_map(|setting| setting.strip_prefix(name)?.strip_prefix('='));
            value.map(str::to_owned)
        };
        let cgroups = self.root.text("/proc/self/cgroup").unwrap_or_default();
        let declared = environment("/proc/1/environ", "container");
        if environment("/proc/self/environ", "KUBERNETES_SERVICE_HOST").is_some() || cgroups.contains("kubepods") {
            Some(Container::Kubernetes)
        } else if self.root.exists("/run/.containerenv") {
            Some(Container::Podman)
        } else if self.root.exists("/.dockerenv") || cgroups.contains("/docker") {
            Some(Container::Docker)
        } else if declared.as_deref() == Some("lxc") || cgroups.contains("/lxc") {
            Some(Container::Lxc)
        } else {
            declared.map(|_| Container::Other)
        }
    }

    /// The command that gives this process a capability and takes a filter away; none where it depends on the host.
    pub(crate) fn grant(&self, capability: &str) -> Option<String> {
        let flags = format!("--cap-add {capability} --security-opt seccomp=unconfined");
        match self.container() {
            Some(Container::Docker) => Some(format!("docker run {flags} IMAGE")),
            Some(Container::Podman) => Some(format!("podman run {flags} IMAGE")),
            Some(Container::Kubernetes) => Some(format!(
                "kubectl patch deployment NAME --type json -p '[{{\"op\":\"add\",\"path\":\
                 \"/spec/template/spec/containers/0/securityContext\",\"value\":{{\"capabilities\":\
                 {{\"add\":[\"{capability}\"]}},\"seccompProfile\":{{\"type\":\"Unconfined\"}}}}}}]'"
            )),
            Some(Container::Lxc | Container::Other) => None,
            None => Some(format!("sudo setcap cap_{}+ep \"$(command -v tierscope)\"", capability.to_ascii_lowercase())),
        }
    }

    /// Logical CPUs online.
    pub(crate) fn cpus(&self) -> usize {
        let online = self.root.line("/sys/devices/system/cpu/online").unwrap_or_default();
        tierscope_machine::members(&online).len().max(1)
    }
}
