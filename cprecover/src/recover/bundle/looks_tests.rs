//! What is taken out, and what must stay readable.

use super::*;

#[test]
fn what_looks_like_a_secret_is_taken_out() {
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ";
    let hex = "5eeded5eeded5eeded5eeded5eeded5e5eeded5eeded5eeded5eeded5eeded5e";
    for (text, gone) in [
        (&*format!("Authorization: Bearer {jwt}"), jwt),
        (&format!("\"Authorization\": \"Bearer {jwt}\""), jwt),
        (&format!("got {jwt} from the client"), jwt),
        (&format!("got {jwt}."), jwt),
        ("use --token abcdef.0123456789abcdef now", "0123456789abcdef"),
        ("the token is abcdef.0123456789abcdef.", "0123456789abcdef"),
        ("`abcdef.0123456789abcdef`!", "0123456789abcdef"),
        ("\"password\":\"hunter22\"", "hunter22"),
        ("{\"password\": \"[hunter22 and more\", \"x\": 1}", "more"),
        ("\"a\": \"{\\\"password\\\":\\\"hunter22, two\\\"}\"", "two"),
        ("--etcd-password=hunter22 --v=2", "hunter22"),
        ("client-key-data: LS0tLS1CRUdJTg", "LS0tLS1CRUdJTg"),
        ("password: 12345678", "12345678"),
        ("password=abcd,efgh;ijkl", "efgh"),
        ("password=abcd,efgh;ijkl", "ijkl"),
        ("secret: /9j4AAQSkZJRgABAQ==", "9j4AAQSkZJRgABAQ"),
        ("password: |\n    hunter22\n", "hunter22"),
        ("[\n  \"--password\",\n  \"hunter22\"\n]", "hunter22"),
        ("{\"detail\": \"[\\n  \\\"--password\\\",\\n  \\\"hunter22\\\"\\n]\"}", "hunter22"),
        ("- --password\n- hunter22\n", "hunter22"),
        ("[\"--password\",\"hunter22\"]", "hunter22"),
        (&format!("kubeadm join 10.0.0.1:6443 --control-plane --certificate-key {hex}"), hex),
        ("etcdctl --password hunter22 get /", "hunter22"),
        ("proxy http://user:hunter22@proxy.example:3128 refused", "hunter22"),
        ("proxy http://user:hunter22@proxy:3128 refused", "hunter22"),
        ("HTTPS_PROXY=http://user:hunter22@localhost", "hunter22"),
        ("http://a:1,https://user:hunt,er22@b:2", "er22"),
        ("user:hunter22@proxy:3128", "hunter22"),
        ("a -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- b", "MIIE"),
        ("{\"k\":\"-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----\\n\"}", "MIIE"),
        ("MIIE\n-----END PRIVATE KEY-----\n", "MIIE"),
        ("container &Container{Env:[]EnvVar{EnvVar{Name:DB,Value:Tr0ub4dor,ValueFrom:nil,},},}", "Tr0ub4dor"),
        ("{\"name\": \"X-Hdr\", \"value\": \"Tr0ub-hdr\"}", "Tr0ub-hdr"),
        ("{\"a\": \"[{\\\"name\\\":\\\"A\\\",\\\"value\\\":\\\"Tr0ub4dor\\\"}]\"}", "Tr0ub4dor"),
        ("\"--x-auth-pass=hunter22\"", "hunter22"),
        ("--db-pw hunter22 --v=2", "hunter22"),
        ("DB_PWD=hunter22", "hunter22"),
        ("login with pass=hunter22 failed", "hunter22"),
        ("spring.datasource.pass: hunter22", "hunter22"),
        ("pwd=hunter22", "hunter22"),
        ("auth=hunter22", "hunter22"),
        ("{\"auth\": \"aHVudGVyMjI=\"}", "aHVudGVyMjI="),
        ("got credential: hunter22", "hunter22"),
        ("--credentials=hunter22", "hunter22"),
        ("X-Key: hunter22", "hunter22"),
        ("--x-key=hunter22", "hunter22"),
        ("aws_access_key=hunter22", "hunter22"),
        ("cookie: session=hunter22", "hunter22"),
        ("Set-Cookie: a=b1; session=hunter22; Path=/ ok", "hunter22"),
        ("map[Cookie:[a=b1; session=hunter22] Accept:[x]]", "hunter22"),
        ("{\"Cookie\": \"a=b1; session=hunter22\"}", "hunter22"),
        ("opened session=hunter22 for a", "hunter22"),
    ] {
        let clean = by_looks(text);
        assert!(!clean.contains(gone) && clean.contains(MARK), "{text:?} became {clean:?}");
        assert_eq!(by_looks(&clean), clean, "of {text:?}");
    }
    // No URL has such a password, but people write it.
    assert_eq!(by_looks("http://user:hun/ter22@proxy:3128"), "http://user:[redacted]@proxy:3128");
}

#[test]
fn what_a_person_needs_stays() {
    for text in [
        "--service-account-key-file=/etc/kubernetes/pki/sa.pub --token-auth-file=/etc/tokens",
        "--token-auth-file /etc/tokens --discovery-token-ca-cert-hash sha256:1064e288 --token-ttl 24h",
        "failed to list *v1.Secret: secrets is forbidden",
        "the token has expired, and /healthz says [-]etcd failed: reason withheld",
        "listen tcp 10.10.17.210:2380: bind: address already in use",
        "sha256 1064e2889abcf363a1244bbb34903cd3cad2b54b0c37190f52b04d7786e93eeb",
        "--authorization-mode=Node,RBAC --enable-bootstrap-token-auth=true",
        "\"tokens\": 12, \"secrets\": [], \"pods\": [\"a\"], \"password\": \"\", \"user\": \"x\"",
        "image registry:5000/etcd:3.6.6-0@sha256:1064e288 on containerd",
        "get https://10.0.0.1:6443/api?timeout=5s and http://[::1]:2379",
        "secret: /etc/kubernetes/encryption.yaml\ntoken:\n  name: x",
        "password of --token\nE0610 next line",
        "--authentication-kubeconfig=/etc/kubernetes/scheduler.conf --authorization-kubeconfig=/etc/kubernetes/a.conf",
        "--authentication-skip-lookup=false --client-cert-auth=true --authentication-token-webhook=true",
        "--image-credential-provider-config=/srv-k8s/p.yaml --image-credential-provider-bin-dir=/opt/bin",
        "bypass: yes, passthrough=on, pass-through: on, and compass=north, pwrite=64, 12 tests pass",
        "\"Syncing\" key=\"kube-system/etcd-cp1\" topology-key=kubernetes.io/hostname key: /registry/pods",
        "auth: no such user, session expired, session: closed by peer, a cookie was sent",
        "kube-apiserver kube-controller-manager etcd v1.36.2 at 10.10.17.210:6443, PWD=/root",
        "{\"name\": \"etcd-certs\", \"hostPath\": \"/etc/kubernetes/pki\"}, {\"value\": \"x\"}",
    ] {
        assert_eq!(by_looks(text), text);
    }
    let json = "{\n  \"a\": \"--token=hunter22\",\n  \"password\": \"x\\\"y\\\\\",\n  \"b\": [1, 2]\n}";
    let clean: serde_json::Value = serde_json::from_str(&by_looks(json)).expect("is JSON still");
    let wanted = serde_json::json!({"a": "--token=[redacted]", "password": "[redacted]", "b": [1, 2]});
    assert_eq!(clean, wanted);
}
