"""The screen for risk, by tables of phrases and by the sample's annotations."""

import csv

import pytest

from cbtllm_utils import files, notices
from cbtllm_utils.data import psyqa
from cbtllm_utils.text import screening

RISKY = """不想活了 活着没意思 想死 我想消失 自残 割手腕 从楼上跳下去 死了算了 睡着了再也不要醒来 要是没有我就好了 想结束生命 我想一了百了
不如死了 想自杀 活够了 觉得自己活着是累赘 我死了他们就轻松了 拿刀片划手臂 想喝农药 吃一瓶安眠药 恨不得杀了他 他打我 真想同归于尽
我控制不住伤害自己 写好了遗书 站在天台边上想跳 我想离开这个世界 想找个地方悄悄死掉 闭上眼睛再也不睁开 如果我没出生就好了
世界上少了我也没人在意 真想一觉睡过去别醒 活不下去了 撞墙打自己 用烟头烫自己 掐自己脖子 不想存在 没有活下去的勇气 生无可恋 想轻生
我想去死 想永远睡着 他威胁要杀我 我想捅死他 上吊 跳河 我想解脱 活着好累好想死 我想了断 活着还有什么意义 有时候想车子撞过来就好了
要是第二天不用醒过来也挺好的 就这么没了也行吧 悄悄没了倒也轻省 明早要是不醒也挺好 直接关机不再重启 人留着好像也没多大用处
我有过不想醒来的念头 醒不醒都好 活腻了 生不如死 想跳楼 割腕 自伤 被家暴 寻短见 想过安乐死""".split()
HARMLESS = """累死了 笑死我了 想死你了 热死了 烦死了 打死也不去 死活不同意 死心眼 杀时间 跳楼价 电脑死机了 死党 气死我 饿死了 困死了 忙死了
杀价 秒杀 猫死了 花养死了 要死要活 羡慕死了 死胡同 死循环 尴尬死了 丢死人了 爱死这首歌 难吃死了 怕死 我怕他死 割麦子 割舍不下
跳舞 跳槽 跳绳 想跳槽 跳过这个话题 割双眼皮 手术要割阑尾 消失了一段时间的朋友 他突然消失了 想换个活法 活动策划 生活没有规律
活着就好 心如死灰 死记硬背 死要面子 我没想过自杀 从没想过要伤害自己 奶奶去世了 爷爷走了 电影里男主自杀了 解脱了终于考完了
我打自己的小算盘 撞车了赔了钱 从二楼搬走了 结束这段关系 想结束工作 我想走了换个城市 不想起床 早上不想醒 离开这个城市 不想活动
吵死了 渴死了 难看死了 死磨硬泡 死对头 半死不活的花 跳楼机 他不会真的想自杀 一个人生活 生活没意思的时候看书 不想活得像别人一样
冷死人 羞死了 后悔死了 笑死个人 心疼死我了 死宅 想活动一下 生活很有意义 爱死你了 烦死个人 打死都不说""".split()


@pytest.mark.parametrize("text", RISKY)
def test_risk_is_flagged(text):
    assert screening.risk(text) and screening.risk(f"最近{text}，怎么办？")


@pytest.mark.parametrize("text", HARMLESS)
def test_everyday_uses_are_not_flagged(text):
    assert not screening.risk(text)


@pytest.mark.parametrize("text", ["不 想 活 了", "不想\n活了", "\uf967想活了"])  # a 不 of another code
def test_spaces_and_widths_hide_nothing(text):
    assert screening.risk(text)


def test_the_sample_as_annotated():
    """Recall 1.0 on the passive items, at most 5 % false alarms: the measure of the sample's card."""
    with files.path("data/sample/distortion_annotations.csv").open(encoding="utf-8") as file:
        annotated = {(int(row["questionID"]), row["risk"] != "none") for row in csv.DictReader(file)}
    passive = {number for number, risky in annotated if risky}
    posts, _ = psyqa.read("data/sample/psyqa_sample.json")
    found = {post.questionID for post in posts if screening.risk(f"{post.question}。{post.description}")}
    assert passive <= found
    assert len(found - passive) <= 0.05 * (len(posts) - len(passive))


def test_the_notices_say_where_to_find_help():
    assert "12356" in notices.notice("zh") and "12356" in notices.notice("en")
    assert "Yixinli" in notices.NOTICES["psyqa"] and "peer support" in notices.NOTICES["psyqa"]
