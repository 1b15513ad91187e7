"""A load balancer in a complete region: created by CloudFormation, read by boto3, used by HTTP clients."""

from __future__ import annotations

import copy
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.region_network import address_beside_the_load_balancer, is_enforced, network_of
from tests.waiting import until

pytestmark = pytest.mark.region

TEMPLATE = {
    "Resources": {
        "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
        "Gateway": {"Type": "AWS::EC2::InternetGateway"},
        "Attachment": {
            "Type": "AWS::EC2::VPCGatewayAttachment",
            "Properties": {"VpcId": {"Ref": "Vpc"}, "InternetGatewayId": {"Ref": "Gateway"}},
        },
        "SubnetA": {
            "Type": "AWS::EC2::Subnet",
            "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.0.1.0/24", "AvailabilityZone": "us-east-1a"},
        },
        "SubnetB": {
            "Type": "AWS::EC2::Subnet",
            "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.0.2.0/24", "AvailabilityZone": "us-east-1b"},
        },
        "Visitors": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {
                "VpcId": {"Ref": "Vpc"},
                "GroupDescription": "visitors",
                "SecurityGroupIngress": [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIp": "0.0.0.0/0"}],
            },
        },
        "Alb": {
            "Type": "AWS::ElasticLoadBalancingV2::LoadBalancer",
            "DependsOn": "Attachment",
            "Properties": {
                "Subnets": [{"Ref": "SubnetA"}, {"Ref": "SubnetB"}],
                "SecurityGroups": [{"Ref": "Visitors"}],
                "LoadBalancerAttributes": [{"Key": "idle_timeout.timeout_seconds", "Value": "20"}],
            },
        },
        "Http": {
            "Type": "AWS::ElasticLoadBalancingV2::Listener",
            "Properties": {
                "LoadBalancerArn": {"Ref": "Alb"},
                "Port": 80,
                "Protocol": "HTTP",
                "DefaultActions": [
                    {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "MessageBody": "nothing"}}
                ],
            },
        },
        "Api": {
            "Type": "AWS::ElasticLoadBalancingV2::TargetGroup",
            "Properties": {
                "Port": 8000,
                "Protocol": "HTTP",
                "TargetType": "ip",
                "VpcId": {"Ref": "Vpc"},
                "HealthCheckPath": "/health",
                "HealthCheckIntervalSeconds": 5,
                "HealthCheckTimeoutSeconds": 2,
                "TargetGroupAttributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}],
            },
        },
        "Rule": {
            "Type": "AWS::ElasticLoadBalancingV2::ListenerRule",
            "Properties": {
                "ListenerArn": {"Ref": "Http"},
                "Priority": 10,
                "Conditions": [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/api", "/api/*"]}}],
                "Actions": [{"Type": "forward", "TargetGroupArn": {"Ref": "Api"}}],
            },
        },
    },
    "Outputs": {
        "Url": {"Value": {"Fn::Sub": "http://${Alb.DNSName}"}},
        "FullName": {"Value": {"Fn::GetAtt": ["Alb", "LoadBalancerFullName"]}},
        "Visitors": {"Value": {"Ref": "Visitors"}},
        "TargetGroup": {"Value": {"Ref": "Api"}},
        "TargetGroupFullName": {"Value": {"Fn::GetAtt": ["Api", "TargetGroupFullName"]}},
    },
}


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"hello from {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def target(region):
    """A server in the region's VPC at 10.0.250.5:8000."""
    with address_beside_the_load_balancer(region.config, "10.0.250.5") as address, network_of(region.config, address):
        server = ThreadingHTTPServer((address, 8000), Hello)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield {"Id": "10.0.250.5", "Port": 8000}
    server.shutdown()
    thread.join()
    server.server_close()


def test_stack_with_a_load_balancer_serves_changes_rolls_back_and_is_deleted(region, target):
    stack = region.create("elb-serves", TEMPLATE)
    assert stack.status == "CREATE_COMPLETE", stack.events
    elb = region.client("elbv2")
    url, group = stack.outputs["Url"], stack.outputs["TargetGroup"]
    assert stack.outputs["FullName"].startswith("app/")
    assert stack.outputs["TargetGroupFullName"] == group.rpartition(":")[2]
    described = elb.describe_load_balancers()["LoadBalancers"]
    seen = next(each for each in described if each["LoadBalancerArn"].endswith(stack.outputs["FullName"]))
    assert [zone["ZoneName"] for zone in seen["AvailabilityZones"]] == ["us-east-1a", "us-east-1b"]
    assert f"http://{seen['DNSName']}" == url
    until(lambda: httpx.get(f"{url}/x").text == "nothing")
    assert httpx.get(f"{url}/api").status_code == 503
    elb.register_targets(TargetGroupArn=group, Targets=[target])
    elb.get_waiter("target_in_service").wait(
        TargetGroupArn=group, Targets=[target], WaiterConfig={"Delay": 1, "MaxAttempts": 15}
    )
    until(lambda: httpx.get(f"{url}/api/plans").text == "hello from /api/plans")

    changed = copy.deepcopy(TEMPLATE)
    conditions = changed["Resources"]["Rule"]["Properties"]["Conditions"]
    conditions[0]["PathPatternConfig"]["Values"] = ["/v2/*"]
    assert region.update("elb-serves", changed).status == "UPDATE_COMPLETE"
    until(lambda: httpx.get(f"{url}/v2/plans").text == "hello from /v2/plans")
    assert httpx.get(f"{url}/api/plans").status_code == 404

    broken = copy.deepcopy(TEMPLATE)
    attributes = broken["Resources"]["Alb"]["Properties"]["LoadBalancerAttributes"]
    attributes.append({"Key": "routing.surprise", "Value": "on"})
    failed = region.update("elb-serves", broken)
    assert failed.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "routing.surprise" in failed.reason("Alb", "UPDATE_FAILED")
    assert httpx.get(f"{url}/v2/plans").text == "hello from /v2/plans"

    elb.deregister_targets(TargetGroupArn=group, Targets=[target])
    health = elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    assert [each["TargetHealth"]["State"] for each in health] == ["draining"]
    elb.get_waiter("target_deregistered").wait(
        TargetGroupArn=group, Targets=[target], WaiterConfig={"Delay": 1, "MaxAttempts": 10}
    )
    assert region.delete("elb-serves").status == "DELETE_COMPLETE"
    assert not [each for each in elb.describe_target_groups()["TargetGroups"] if each["TargetGroupArn"] == group]


def answer_of(url):
    try:
        return httpx.get(url, timeout=httpx.Timeout(20, connect=0.5)).text
    # A port that opens or closes can also end a connection that it has accepted.
    except (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError) as error:
        return type(error).__name__


def test_listener_answers_only_while_a_security_group_opens_its_port(region):
    stack = region.create("elb-closed", TEMPLATE)
    assert stack.status == "CREATE_COMPLETE", stack.events
    url, group = f"{stack.outputs['Url']}/x", stack.outputs["Visitors"]
    ec2, elb = region.client("ec2"), region.client("elbv2")
    everybody = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    inside = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
    until(lambda: answer_of(url) == "nothing")

    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=everybody)
    until(lambda: answer_of(url) == "ConnectTimeout")
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=inside)
    assert answer_of(url) == "ConnectTimeout", "the client is not in the VPC"
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=everybody)
    until(lambda: answer_of(url) == "nothing")

    (balancer,) = (
        each["LoadBalancerArn"]
        for each in elb.describe_load_balancers()["LoadBalancers"]
        if each["LoadBalancerArn"].endswith(stack.outputs["FullName"])
    )
    default = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"]
    elb.set_security_groups(LoadBalancerArn=balancer, SecurityGroups=[default[-1]["GroupId"]])
    until(lambda: answer_of(url) == "ConnectTimeout")
    template = copy.deepcopy(TEMPLATE)
    template["Resources"]["Visitors"]["Properties"]["SecurityGroupIngress"][0]["ToPort"] = 81
    assert region.update("elb-closed", template).status == "UPDATE_COMPLETE"
    assert region.delete("elb-closed").status == "DELETE_COMPLETE"
    until(lambda: answer_of(url) == "ConnectError")


def test_tasks_names_for_the_outside_apis_resolve_to_the_standins(region):
    hosts = (region.config.run_folder / "names" / "hosts").read_text()
    address = "198.51.100.10" if is_enforced(region.config) else f"127.{region.config.loopback_octet}.255.10"
    assert f"{address} api.openai.com" in hosts
    inbox = httpx.get(f"http://127.0.0.1:{region.config.inbox_port}/")
    assert "no mail leaves this machine" in inbox.text
