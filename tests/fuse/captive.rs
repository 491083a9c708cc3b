//! The end of the worker while a command runs in the mount.

use super::*;

#[test]
fn a_killed_worker_under_a_command_is_told_and_exit_70() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let run = |then: &str| {
        // Who unmounts first is not to be waited for: the command has gone on when the mount is gone.
        let script = format!(
            r#"kill -9 $(sed 's/.*"worker": *\([0-9]*\).*/\1/;t;d' .imgmount/status); cd /
               while grep -q "$IMGMOUNT_ROOT" /proc/self/mountinfo; do sleep 0.02; done; {then}"#
        );
        Command::new(IMGMOUNT)
            .arg(disk())
            .args(["--", "sh", "-c", &script])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let output = run("exit 0");
    assert_eq!(output.status.code(), Some(70), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("the process that reads the image ended").count(), 1);
    assert_eq!(run("exit 3").status.code(), Some(3), "what the command says of itself is not hidden");
}
