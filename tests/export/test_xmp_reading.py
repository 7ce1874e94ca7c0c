"""Reading Lightroom's XMP: real layouts, unknown settings, wrong values, hostile files."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym import Recipe
from retouch_gym.adjustments import Crop, LinearGradient, LocalAdjustment, MaskPart
from retouch_gym.errors import RecipeError
from retouch_gym.export import from_xmp, import_xmp, to_xmp

CRS = "http://ns.adobe.com/camera-raw-settings/1.0/"
SKY = LocalAdjustment(name="sky", parts=(MaskPart(shape=LinearGradient(x0=0, y0=0, x1=0, y1=1)),), controls={"tint": 9})


def packet(attributes: str = "", body: str = "") -> str:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:crs="{CRS}" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        f'crs:ProcessVersion="11.0" {attributes}>{body}</rdf:Description></rdf:RDF></x:xmpmeta>'
    )


class TestReading:
    def test_elements_and_attributes_read_alike(self) -> None:
        as_attributes = packet('crs:Exposure2012="+0.35" crs:HueAdjustmentRed="-7" crs:ConvertToGrayscale="true"')
        as_elements = packet(
            body="<crs:Exposure2012>+0.35</crs:Exposure2012><crs:HueAdjustmentRed> -7 </crs:HueAdjustmentRed>"
            "<crs:ConvertToGrayscale>True</crs:ConvertToGrayscale>"
        )
        expected = Recipe("lightroom", {"exposure": 0.35, "hsl_red_hue": -7, "black_and_white": 1})
        assert from_xmp(as_attributes) == from_xmp(as_elements) == expected

    def test_settings_may_be_spread_over_descriptions_and_a_bare_rdf(self) -> None:
        one = packet('crs:Exposure2012="1"')
        inner = re.sub(r"</?x:xmpmeta[^>]*>", "", one).replace(
            "</rdf:RDF>", f'<rdf:Description xmlns:c="{CRS}" c:Vibrance="9"/></rdf:RDF>'
        )
        assert from_xmp("\ufeff" + inner) == Recipe("lightroom", {"exposure": 1, "vibrance": 9})

    def test_a_file_as_lightroom_writes_it(self) -> None:
        """The layout of Lightroom Classic's sidecars, with every kind of entry; the values are made up."""
        imported = import_xmp(SIDECAR)
        recipe = imported.recipe
        assert recipe.controls == {
            "exposure": -0.4,
            "highlights": -100,
            "shadows": 47,
            "sharpening_amount": 40,
            "noise_color": 25,
            "hsl_orange_saturation": -30,
            "grading_shadows_hue": 286,
            "grading_shadows_saturation": 1,
            "grading_midtones_luminance": 52,
            "grading_blending": 100,
            "vignette_amount": -18,
            "calibration_red_saturation": -14,
        }
        assert recipe.curves == {"curve": ((0, 0), (27 / 255, 34 / 255), (1, 239 / 255))}
        assert recipe.crop == Crop(left=0.050467, top=0.142125, right=0.969144, bottom=0.9)
        assert [local.name for local in recipe.locals] == ["_ 1", "_ 1 2"]
        assert recipe.locals[0].controls == {"exposure": 0.33, "clarity": -19.5091}
        assert recipe.locals[0].parts[1].op == "subtract"
        left_out = " | ".join(imported.left_out)
        for name in ("Temperature = 7415", "Tint = +27", "AutoLateralCA", "PointColors", "RetouchAreas"):
            assert name in left_out
        assert "Mask/Image cannot be held" in left_out
        for name in ("CameraProfile", "Look", "LensProfileEnable", "RawFileName", "ParametricMidtoneSplit", "LensBlur"):
            assert name not in left_out
        with pytest.raises(RecipeError, match="Temperature = 7415"):
            from_xmp(SIDECAR)

    @pytest.mark.parametrize(
        ("attributes", "message"),
        [
            ('crs:Contrast2012="+120"', "Contrast2012 = 120 is outside -100..100"),
            ('crs:Exposure2012="bright"', "Exposure2012 = 'bright'; expected a number"),
            ('crs:Exposure2012="nan"', "Exposure2012 = 'nan'; expected a number"),
            ('crs:ConvertToGrayscale="perhaps"', "ConvertToGrayscale = 'perhaps'; expected True or False"),
            ('crs:HasCrop="True" crs:CropLeft="0.1"', "CropTop = 'None'; expected a number"),
            ('crs:HasCrop="True" crs:CropTop="-0.5" crs:CropLeft="0" crs:CropBottom="1" crs:CropRight="1"', "0..1"),
            ('crs:HasCrop="True" crs:CropTop="0.5" crs:CropLeft="0" crs:CropBottom="0.2" crs:CropRight="1"', "below"),
            ('crs:ToneCurvePV2012="0, 300"', "outside 0..255"),
            ('crs:ToneCurvePV2012="0; 3"', "should be 'input, output'"),
            ('crs:MaskGroupBasedCorrections="sky"', "should be a list of structures"),
            ('tiff:ImageWidth="0" tiff:ImageLength="9"', "expected at least 1 × 1"),
        ],
    )
    def test_a_wrong_value_is_named_with_its_key_and_range(self, attributes: str, message: str) -> None:
        with pytest.raises(RecipeError, match=re.escape(message)):
            import_xmp(packet(attributes))

    @pytest.mark.parametrize("version", ["5.0", "5.7"])
    def test_process_versions_before_2012_are_refused(self, version: str) -> None:
        with pytest.raises(RecipeError, match=rf"ProcessVersion = {re.escape(f'{float(version):g}')} is outside"):
            import_xmp(packet().replace('ProcessVersion="11.0"', f'ProcessVersion="{version}"'))

    def test_newer_and_missing_process_versions_are_noted(self) -> None:
        text = packet('crs:Exposure2012="1"')
        assert "newer than 15.4" in import_xmp(text.replace("11.0", "17.0")).left_out[0]
        assert "missing" in import_xmp(text.replace('crs:ProcessVersion="11.0"', "")).left_out[0]

    def test_a_photo_that_is_stored_turned_keeps_its_sliders_alone(self) -> None:
        text = to_xmp(Recipe("lightroom", {"exposure": 1}, crop=Crop(left=0.2), locals=(SKY,)))
        turned = text.replace("crs:HasCrop", 'tiff:Orientation="6"\n    crs:HasCrop')
        imported = import_xmp(turned)
        assert imported.recipe == Recipe("lightroom", {"exposure": 1})
        assert "Orientation 6" in imported.left_out[0]

    def test_the_same_setting_twice_is_refused(self) -> None:
        with pytest.raises(RecipeError, match="Exposure2012 twice"):
            import_xmp(packet('crs:Exposure2012="1"', "<crs:Exposure2012>2</crs:Exposure2012>"))


class TestHostileFiles:
    @pytest.mark.parametrize(
        "text",
        [
            '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>' + packet(body="&b;"),
            '<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/hostname">' + packet(),
        ],
    )
    def test_document_types_and_entities_are_refused(self, text: str) -> None:
        with pytest.raises(RecipeError, match="document type or entities"):
            import_xmp(text)

    @pytest.mark.parametrize("text", ["", "exposure", "<x/>", "{}", packet()[:-9], packet().replace("rdf:RDF", "RDF")])
    def test_what_is_no_xmp_is_refused(self, text: str) -> None:
        with pytest.raises(RecipeError, match="Not XMP"):
            import_xmp(text)

    def test_an_xmp_without_settings_is_refused(self) -> None:
        with pytest.raises(RecipeError, match="no develop settings"):
            import_xmp(packet().replace('crs:ProcessVersion="11.0"', ""))

    @pytest.mark.parametrize("tags", [["crs:Look"], ["crs:Look", "rdf:Seq", "rdf:li"], ["rdf:Description"]])
    def test_deep_nesting_is_refused(self, tags: list[str]) -> None:
        chain = tags + ["rdf:Seq", "rdf:li"] * 3000 if "rdf:Seq" in tags else tags * 3000
        deep = "".join(f"<{tag}>" for tag in chain) + "".join(f"</{tag}>" for tag in reversed(chain))
        with pytest.raises(RecipeError, match="levels deep"):
            import_xmp(packet(body=deep))

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_a_damaged_file_is_read_or_refused(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(SIDECAR) - 1))
        length = data.draw(st.integers(0, 40))
        put = data.draw(st.text(max_size=10))
        damaged = SIDECAR[:at] + put + SIDECAR[at + length :]
        with contextlib.suppress(RecipeError):
            recipe = import_xmp(damaged).recipe
            assert from_xmp(to_xmp(recipe, size=(60, 40), partial=True), partial=True).toolset == "lightroom"


SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
   xmp:Rating="3" tiff:Orientation="1" tiff:ImageWidth="6000" tiff:ImageLength="4000"
   crs:Version="18.0" crs:ProcessVersion="15.4" crs:WhiteBalance="Custom" crs:Temperature="7415" crs:Tint="+27"
   crs:Exposure2012="-0.40" crs:Contrast2012="0" crs:Highlights2012="-100" crs:Shadows2012="+47"
   crs:ParametricMidtoneSplit="50" crs:Sharpness="40" crs:SharpenRadius="+1.0" crs:SharpenDetail="25"
   crs:ColorNoiseReduction="25" crs:ColorNoiseReductionDetail="50" crs:SaturationAdjustmentOrange="-30"
   crs:SplitToningShadowHue="286" crs:SplitToningShadowSaturation="1" crs:ColorGradeMidtoneLum="+52"
   crs:ColorGradeBlending="100" crs:AutoLateralCA="1" crs:LensProfileEnable="0" crs:PerspectiveScale="100"
   crs:PostCropVignetteAmount="-18" crs:PostCropVignetteStyle="1" crs:RedSaturation="-14"
   crs:CurveRefineSaturation="100" crs:CameraProfile="Adobe Standard" crs:HasSettings="True"
   crs:CropTop="0.142125" crs:CropLeft="0.050467" crs:CropBottom="0.9" crs:CropRight="0.969144" crs:CropAngle="0"
   crs:HasCrop="True" crs:AlreadyApplied="False" crs:RawFileName="photo.dng">
   <crs:ToneCurvePV2012>
    <rdf:Seq><rdf:li>0, 0</rdf:li><rdf:li>27, 34</rdf:li><rdf:li>255, 239</rdf:li></rdf:Seq>
   </crs:ToneCurvePV2012>
   <crs:ToneCurvePV2012Red>
    <rdf:Seq><rdf:li>0, 0</rdf:li><rdf:li>255, 255</rdf:li></rdf:Seq>
   </crs:ToneCurvePV2012Red>
   <crs:PointColors><rdf:Seq><rdf:li>1.5, 0.8, 0.09, -0.38</rdf:li></rdf:Seq></crs:PointColors>
   <crs:LensBlur crs:Version="1" crs:Active="false" crs:BlurAmount="50"/>
   <crs:Look>
    <rdf:Description crs:Name="Adobe Color" crs:Amount="1">
     <crs:Group><rdf:Alt><rdf:li xml:lang="x-default">Profiles</rdf:li></rdf:Alt></crs:Group>
    </rdf:Description>
   </crs:Look>
   <crs:RetouchAreas>
    <rdf:Seq><rdf:li><rdf:Description crs:SpotType="heal"/></rdf:li></rdf:Seq>
   </crs:RetouchAreas>
   <crs:MaskGroupBasedCorrections>
    <rdf:Seq>
     <rdf:li>
      <rdf:Description crs:What="Correction" crs:CorrectionAmount="1" crs:CorrectionActive="true"
       crs:CorrectionName="蒙 1" crs:LocalExposure="0" crs:LocalExposure2012="0.0825"
       crs:LocalClarity2012="-0.195091" crs:LocalCurveRefineSaturation="100">
      <crs:CorrectionMasks>
       <rdf:Seq>
        <rdf:li crs:What="Mask/CircularGradient" crs:MaskActive="true" crs:MaskBlendMode="0" crs:MaskInverted="false"
         crs:MaskValue="1" crs:Top="0.2" crs:Left="0.2" crs:Bottom="0.8" crs:Right="0.8" crs:Angle="0"
         crs:Midpoint="50" crs:Roundness="0" crs:Feather="25" crs:Flipped="true" crs:Version="2"/>
        <rdf:li crs:What="Mask/Gradient" crs:MaskActive="true" crs:MaskBlendMode="1" crs:MaskInverted="false"
         crs:MaskValue="0" crs:ZeroX="0.28351" crs:ZeroY="0.422576" crs:FullX="0.52459" crs:FullY="0.422576"/>
       </rdf:Seq>
      </crs:CorrectionMasks>
      </rdf:Description>
     </rdf:li>
     <rdf:li rdf:parseType="Resource">
      <crs:What>Correction</crs:What>
      <crs:CorrectionName>蒙 1</crs:CorrectionName>
      <crs:LocalSaturation>0.25</crs:LocalSaturation>
      <crs:CorrectionMasks>
       <rdf:Seq>
        <rdf:li rdf:parseType="Resource">
         <crs:What>Mask/Gradient</crs:What>
         <crs:ZeroX>0</crs:ZeroX><crs:ZeroY>0</crs:ZeroY><crs:FullX>1</crs:FullX><crs:FullY>1</crs:FullY>
        </rdf:li>
       </rdf:Seq>
      </crs:CorrectionMasks>
     </rdf:li>
     <rdf:li>
      <rdf:Description crs:What="Correction" crs:CorrectionAmount="1" crs:LocalExposure2012="0.1">
      <crs:CorrectionMasks>
       <rdf:Seq><rdf:li crs:What="Mask/Image" crs:MaskSubType="1" crs:MaskValue="1"/></rdf:Seq>
      </crs:CorrectionMasks>
      </rdf:Description>
     </rdf:li>
    </rdf:Seq>
   </crs:MaskGroupBasedCorrections>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
