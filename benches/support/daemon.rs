//! The daemon driven without brig.

use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig};
use bollard::query_parameters::{AttachContainerOptionsBuilder, CreateContainerOptions, RemoveContainerOptionsBuilder};
use futures_util::StreamExt as _;

use super::INSTALL;

pub async fn connect() -> Docker {
    Docker::connect_with_local_defaults().unwrap().negotiate_version().await.unwrap()
}

/// A container that runs already.
pub struct Warm(String);

impl Warm {
    pub async fn start(docker: &Docker, image: &str) -> Self {
        let id = create(docker, image, &["sleep", "1000000"]).await;
        docker.start_container(&id, None).await.unwrap();
        Self(id)
    }

    /// `docker exec`, until its output has ended.
    pub async fn exec(&self, docker: &Docker, command: &[&str]) -> Duration {
        let began = Instant::now();
        let exec = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.iter().map(|&word| word.to_owned()).collect()),
            ..ExecConfig::default()
        };
        let exec = docker.create_exec(&self.0, exec).await.unwrap();
        match docker.start_exec(&exec.id, None::<StartExecOptions>).await.unwrap() {
            StartExecResults::Attached { mut output, .. } => while output.next().await.is_some() {},
            StartExecResults::Detached => panic!("it is attached"),
        }
        began.elapsed()
    }

    pub async fn stop(self, docker: &Docker) {
        remove(docker, &self.0).await;
    }
}

/// `docker run`: create, attach, start, until the output has ended. What is left of it is removed by who asks for that.
pub async fn cold(docker: &Docker, image: &str, command: &[&str]) -> (Duration, String) {
    let began = Instant::now();
    let id = create(docker, image, command).await;
    let options = AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).build();
    let mut attached = docker.attach_container(&id, Some(options)).await.unwrap();
    docker.start_container(&id, None).await.unwrap();
    while attached.output.next().await.is_some() {}
    (began.elapsed(), id)
}

pub async fn remove(docker: &Docker, id: &str) {
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(id, Some(options)).await.unwrap();
}

async fn create(docker: &Docker, image: &str, command: &[&str]) -> String {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(command.iter().map(|&word| word.to_owned()).collect()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        labels: Some([("brig.install".to_owned(), INSTALL.to_owned())].into()),
        host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id
}
